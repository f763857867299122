// The full fine-tune, from folders of conversations to an adapter that speaks. Read it from top to bottom.
//
//   npx -y pnpm@10 run finetune                                          the sample data on a small model
//   npx -y pnpm@10 run finetune --model FOLDER --data FOLDER --out DIR   your own
//   npx -y pnpm@10 run finetune --objective dpo --data FOLDER            from chosen and rejected answers
import { createHash } from 'node:crypto'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { PreparedData, PreparedPreferences } from '@mirastral/data'
import { Ledger, prepareDataset, preparePreferences } from '@mirastral/data'
import type { Backend } from '@mirastral/engine'
import { createTextGenerator } from '@mirastral/infer'
import type { Adapter, InitialAdapter } from '@mirastral/lora'
import {
  denseParameters,
  initializeAdapter,
  loadAdapter,
  modulesOfModel,
  plainLora,
  reopenAdapter,
  saveAdapter,
} from '@mirastral/lora'
import type { LoadedModel } from '@mirastral/models'
import { loadModel } from '@mirastral/models'
import type { BatchOptions, TrainRequest, TrainResult, TrainStepRequest } from '@mirastral/trainer'
import {
  batchesOf,
  createPreferenceStep,
  createTrainStep,
  inspectRun,
  installSignalHandlers,
  parseTrainingOptions,
  preferenceRun,
  StopSource,
  train,
} from '@mirastral/trainer'
import { smallBaseModel } from './lib/base-model.js'
import type { FinetuneOptions } from './lib/command-line.js'
import { readOptions, runMain } from './lib/command-line.js'
import { evidenceOf } from './lib/evidence.js'
import type { Placement } from './lib/placement.js'
import { computeDtype, placeRun } from './lib/placement.js'
import { adapterName, adapterPlan, objectiveName, paddedLengths, recipeOf } from './lib/recipe.js'
import { nameOf, sampleAnswer, say, showData } from './lib/show.js'

const here = (path: string): string => fileURLToPath(new URL(path, import.meta.url))
const hashOf = (value: unknown): string => createHash('sha256').update(JSON.stringify(value)).digest('hex')

const SAMPLES = { sft: ['worker1', 'worker2', 'worker3'], dpo: ['preferences'] } as const
const samplesOf = (objective: keyof typeof SAMPLES): string[] => SAMPLES[objective].map((name) => here(`data/${name}`))

/** What a checkpoint keeps about its run, for the run to go on in the same way. */
interface Sources {
  readonly files: readonly string[]
  readonly placement: Placement
}

/** Conversations, or pairs of a chosen and a rejected answer. */
type TrainingData = ({ objective: 'sft' } & PreparedData) | ({ objective: 'dpo' } & PreparedPreferences)

/** What both models are asked at the end. */
const QUESTION = 'I keep waking up at four and going over everything I said at work.'

async function main(): Promise<number> {
  const options = readOptions(process.argv.slice(2))
  if (options === 'help') return 0
  // From here on a signal ends the run saved, in whatever phase it is; a second one ends it at once.
  const stop = new StopSource()
  installSignalHandlers(stop, { onFirst: (signal) => say(`${signal}: stopping`) })

  // 1. The base model: its linear layers become NF4 while they are read.
  const model = await loadModel(options.model ?? (await ownBaseModel(options, stop)), {
    quantization: 'nf4',
    dtype: computeDtype(options),
  })
  for (const warning of model.warnings) say(`note: ${warning}`)
  stop.throwIfRequested()

  // 2. The conversations that no run has seen yet. A run that was interrupted goes on with the files it began with.
  const before = await inspectRun(options.out)
  const interrupted = before.state === 'unfinished' && !options['force-restart']
  const kept = interrupted ? (before.sources as unknown as Sources) : null
  const inputs = kept?.files ?? options.data ?? samplesOf(options.objective)
  const ledger = await Ledger.open(join(options.out, 'processed_files.jsonl'))
  try {
    say(`reading ${kept ? 'the files of the interrupted run' : inputs.map(nameOf).join(', ')}`)
    const request = {
      inputs,
      tokenizer: model.folder,
      ledger,
      options: { maxLength: options['max-length'], evalFraction: options['eval-fraction'] },
    }
    const data: TrainingData =
      options.objective === 'sft'
        ? { objective: 'sft', ...(await prepareDataset(request)) }
        : { objective: 'dpo', ...(await preparePreferences(request)) }
    showData(data.report)
    stop.throwIfRequested()

    // 3. Training. Files count as processed only once what they taught is safe.
    const { backend, placement, lines } = await placeRun(options, model, kept?.placement ?? null)
    lines.forEach((line) => say(`  ${line}`))
    const { result, modules } = await trainAdapter(options, model, data, {
      backend,
      placement,
      stop,
      checkpoint: options['force-restart'] ? null : before.checkpoint,
    })
    const isDone = result.status === 'finished' || result.status === 'nothing-new'
    if (isDone) await data.commit({ steps: [result.startStep + 1, result.step], adapter: result.finalModel ?? '' })
    data.close()
    if (result.status !== 'finished' || result.finalModel === null) return result.exitCode

    // 4. The adapter speaks.
    say(`train loss ${result.trainLoss?.toFixed(4) ?? '-'}, eval loss ${result.evaluation?.evalLoss.toFixed(4) ?? '-'}`)
    const { adapter } = await loadAdapter(result.finalModel, modules)
    say(`\nasked:  ${QUESTION}`)
    say(`before: ${await answerOf(model, null, backend)}`)
    say(`after:  ${await answerOf(model, adapter, backend)}`)
    if (options.model === undefined)
      say('(a small model that has read only the sample conversations; --model takes real ones)')
    say(`\nthe adapter is in ${result.finalModel}`)
    return result.exitCode
  } finally {
    await ledger.close()
    await model.weights.close()
  }
}

interface Place {
  readonly backend: Backend
  readonly placement: Placement
  readonly stop: StopSource
  /** The newest checkpoint, which a run that goes on, or a new run on new data, takes its adapter from. */
  readonly checkpoint: string | null
}

/** Resumes what is unfinished, stops in time, saves whole checkpoints; nothing new ends at once. */
async function trainAdapter(
  options: FinetuneOptions,
  model: LoadedModel,
  data: TrainingData,
  { backend, placement, stop, checkpoint }: Place,
) {
  const recipe = recipeOf(options)
  const modules = modulesOfModel(model.architecture.parameters(model.config))
  const plan = adapterPlan(options, modules, model.name)
  const begin = { seed: recipe.seed, readParameter: denseParameters(model.weights) }
  let begun: Promise<InitialAdapter> | null = null
  const adapter = (): Promise<InitialAdapter> =>
    (begun ??= checkpoint === null ? initializeAdapter(plan, begin) : reopenAdapter(checkpoint, plan, modules))
  const stepRequest = async () => ({
    backend,
    model,
    adapter: await adapter(),
    options: recipe,
    checkpointing: placement.checkpointing,
  })
  const shared = {
    outputDir: options.out,
    options: recipe,
    ...factsOf(options, model, data),
    sources: { files: usedFiles(data).map((file) => file.path), placement: { ...placement } },
    // PiSSA and OLoRA begin by taking a part off the base; what is saved is plain LoRA for the base as it is.
    saveAdapter: async (folder: string, tensors: Adapter['tensors']) =>
      saveAdapter(folder, plainLora({ plan, tensors }, (await adapter()).subtracted)),
    stop,
    handleSignals: false,
    progress: process.stdout,
    // With a repository named, the adapter goes to the Hub with a card written from the records of this run.
    ...(options['push-to-hub'] !== undefined && {
      publish: {
        repo: options['push-to-hub'],
        when: options['push-when'],
        evidence: (step: number) =>
          evidenceOf({ out: options.out, model, report: data.report, device: options.device, recipe, plan }, step),
      },
    }),
  }
  const batches = {
    batchSize: recipe.perDeviceTrainBatchSize,
    padTokenId: data.tokenizer.padTokenId,
    sequenceLength: paddedLengths(recipe.maxLength),
  }
  const result = await learn(data, { shared, stepRequest, batches, model })
  return { result, modules }
}

type Shared = Omit<TrainRequest<never>, 'step' | 'data'>

interface Learning {
  readonly shared: Shared
  readonly stepRequest: () => Promise<TrainStepRequest>
  readonly batches: Omit<BatchOptions, 'seed'>
  readonly model: LoadedModel
}

/** Trains on conversations, or on pairs; preferences are measured against the model without its adapter. */
async function learn(data: TrainingData, { shared, stepRequest, batches, model }: Learning): Promise<TrainResult> {
  const { seed } = parseTrainingOptions(shared.options)
  const step = async () => createTrainStep(await stepRequest())
  if (data.train.length === 0) return train({ ...shared, step, data: null })
  if (data.objective === 'sft') {
    const rows = { train: batchesOf(data.train, { ...batches, seed }), eval: batchesOf(data.eval, batches) }
    return train({ ...shared, step, data: rows })
  }
  return train({
    ...shared,
    ...preferenceRun({
      ...batches,
      step: async () => createPreferenceStep(await stepRequest()),
      train: data.train,
      eval: data.eval,
      seed,
      folder: join(shared.outputDir, 'results'),
      model: model.identity,
    }),
  })
}

const usedFiles = (data: TrainingData) => data.report.files.filter((file) => file.status === 'used')

/** What the run rests on, and what its report says of model and data. */
function factsOf(options: FinetuneOptions, model: LoadedModel, data: TrainingData) {
  const used = usedFiles(data)
  const { train: trained, eval: held } = data.report
  const what = data.objective === 'dpo' ? 'pairs' : 'conversations'
  return {
    identity: {
      model: model.identity,
      adapter: adapterName(options),
      objective: objectiveName(options),
      tokenizer: data.tokenizer.hash,
      preparation: `length ${options['max-length']}, eval ${options['eval-fraction']}`,
      data: hashOf(used.map((file) => file.sha256)),
    },
    about: {
      Model: {
        Base: model.name,
        Type: model.config.modelType,
        Quantization: 'NF4, blocks of 64',
        Adapter: adapterName(options),
        Objective: objectiveName(options),
      },
      Data: {
        Files: used.length,
        [`Training ${what}`]: trained.examples,
        [`Evaluation ${what}`]: held.examples,
        'Training tokens': trained.tokens,
        'Trained tokens': trained.trainedTokens,
      },
    },
  }
}

async function answerOf(model: LoadedModel, adapter: Adapter | null, backend: Backend): Promise<string> {
  const generator = await createTextGenerator({ model, adapter, backend, contextLength: 512 })
  try {
    return await sampleAnswer(generator, QUESTION)
  } finally {
    await generator.dispose()
  }
}

const ownBaseModel = (options: FinetuneOptions, stop: StopSource): Promise<string> =>
  smallBaseModel({
    folder: here('../.cache/small-mistral'),
    tokenizer: here('tokenizer'),
    conversations: samplesOf('sft'),
    log: say,
    stop,
    ...(options.threads === undefined ? {} : { threads: options.threads }),
  })

await runMain(main)
