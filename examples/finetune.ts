// The full fine-tune, from folders of conversations to an adapter that speaks. Read it from top to bottom.
//
//   npx -y pnpm@10 run finetune                                          the sample data on a small model
//   npx -y pnpm@10 run finetune --model FOLDER --data FOLDER --out DIR   your own
import { createHash } from 'node:crypto'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { PreparedData } from '@mirastral/data'
import { Ledger, prepareDataset } from '@mirastral/data'
import type { Backend } from '@mirastral/engine'
import { createTextGenerator } from '@mirastral/infer'
import type { Adapter } from '@mirastral/lora'
import { initializeAdapter, loadAdapter, modulesOfModel, parseLoraConfig, planLora, saveAdapter } from '@mirastral/lora'
import type { LoadedModel } from '@mirastral/models'
import { loadModel } from '@mirastral/models'
import {
  batchesOf,
  createTrainStep,
  inspectRun,
  installSignalHandlers,
  parseTrainingOptions,
  StopSource,
  train,
} from '@mirastral/trainer'
import { smallBaseModel } from './lib/base-model.js'
import type { FinetuneOptions } from './lib/command-line.js'
import { readOptions, runMain } from './lib/command-line.js'
import { evidenceOf } from './lib/evidence.js'
import type { Placement } from './lib/placement.js'
import { computeDtype, placeRun } from './lib/placement.js'
import { nameOf, sampleAnswer, say, showData } from './lib/show.js'

const here = (path: string): string => fileURLToPath(new URL(path, import.meta.url))
const hashOf = (value: unknown): string => createHash('sha256').update(JSON.stringify(value)).digest('hex')

/** What a checkpoint keeps about its run, for the run to go on in the same way. */
interface Sources {
  readonly files: readonly string[]
  readonly placement: Placement
}

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
  const inputs = kept?.files ?? options.data ?? [here('data')]
  const ledger = await Ledger.open(join(options.out, 'processed_files.jsonl'))
  try {
    say(`reading ${kept ? 'the files of the interrupted run' : inputs.map(nameOf).join(', ')}`)
    const data = await prepareDataset({
      inputs,
      tokenizer: model.folder,
      ledger,
      options: { maxLength: options['max-length'], evalFraction: options['eval-fraction'] },
    })
    showData(data.report)
    stop.throwIfRequested()

    // 3. Training. Files count as processed only once what they taught is safe.
    const { backend, placement, lines } = await placeRun(options, model, kept?.placement ?? null)
    lines.forEach((line) => say(`  ${line}`))
    const { result, modules } = await trainAdapter(options, model, data, { backend, placement, stop })
    const isDone = result.status === 'finished' || result.status === 'nothing-new'
    if (isDone) await data.commit({ steps: [result.startStep + 1, result.step], adapter: result.finalModel ?? '' })
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

/** Resumes what is unfinished, stops in time, saves whole checkpoints; nothing new ends at once. */
async function trainAdapter(
  options: FinetuneOptions,
  model: LoadedModel,
  data: PreparedData,
  { backend, placement, stop }: { backend: Backend; placement: Placement; stop: StopSource },
) {
  const recipe = recipeOf(options)
  const modules = modulesOfModel(model.architecture.parameters(model.config))
  const lora = parseLoraConfig({
    r: options.rank,
    loraAlpha: options.alpha,
    loraDropout: options.dropout,
    targetModules: options.targets.split(','),
    taskType: 'CAUSAL_LM',
    baseModelNameOrPath: model.name,
  })
  const plan = planLora(lora, modules)
  const evidence = { out: options.out, model, report: data.report, device: options.device }
  const used = data.report.files.filter((file) => file.status === 'used')
  const batches = {
    batchSize: recipe.perDeviceTrainBatchSize,
    padTokenId: data.tokenizer.padTokenId,
    sequenceLength: paddedLengths(recipe.maxLength),
  }
  const result = await train({
    outputDir: options.out,
    options: recipe,
    identity: {
      model: model.identity,
      adapter: adapterName(options),
      tokenizer: data.tokenizer.hash,
      preparation: `length ${options['max-length']}, eval ${options['eval-fraction']}`,
      data: hashOf(used.map((file) => file.sha256)),
    },
    sources: { files: used.map((file) => file.path), placement: { ...placement } },
    data:
      data.train.length === 0
        ? null
        : {
            train: batchesOf(data.train, { ...batches, seed: recipe.seed }),
            eval: batchesOf(data.eval, batches),
          },
    step: async () => {
      const adapter = await initializeAdapter(plan, { seed: recipe.seed })
      return createTrainStep({ backend, model, adapter, options: recipe, checkpointing: placement.checkpointing })
    },
    saveAdapter: (folder, tensors) => saveAdapter(folder, { plan, tensors }),
    stop,
    handleSignals: false,
    progress: process.stdout,
    // With a repository named, the adapter goes to the Hub with a card written from the records of this run.
    ...(options['push-to-hub'] !== undefined && {
      publish: {
        repo: options['push-to-hub'],
        when: options['push-when'],
        evidence: (step: number) => evidenceOf({ ...evidence, recipe, plan }, step),
      },
    }),
    about: {
      Model: {
        Base: model.name,
        Type: model.config.modelType,
        Quantization: 'NF4, blocks of 64',
        Adapter: adapterName(options),
      },
      Data: {
        Files: used.length,
        'Training conversations': data.report.train.examples,
        'Evaluation conversations': data.report.eval.examples,
        'Training tokens': data.report.train.tokens,
        'Trained tokens': data.report.train.trainedTokens,
      },
    },
  })
  return { result, modules }
}

async function answerOf(model: LoadedModel, adapter: Adapter | null, backend: Backend): Promise<string> {
  const generator = await createTextGenerator({ model, adapter, backend, contextLength: 512 })
  try {
    return await sampleAnswer(generator, QUESTION)
  } finally {
    await generator.dispose()
  }
}

const adapterName = ({ rank, alpha, dropout, targets }: FinetuneOptions): string =>
  `r=${rank} alpha=${alpha} dropout=${dropout} on ${targets}`

/** The recipe of the Hugging Face Trainer in its own words; a small model learns at a higher rate. */
function recipeOf(options: FinetuneOptions) {
  return parseTrainingOptions({
    learningRate: options['learning-rate'] ?? (options.model === undefined ? 1e-3 : 2e-5),
    numTrainEpochs: options.epochs,
    perDeviceTrainBatchSize: options['batch-size'],
    perDeviceEvalBatchSize: options['batch-size'],
    gradientAccumulationSteps: options.accumulation,
    maxLength: options['max-length'],
    saveSteps: options['save-steps'],
    budgetMinutes: options['budget-minutes'],
    seed: options.seed,
    forceRestart: options['force-restart'],
    ...(options.dashboard === undefined ? {} : { dashboard: options.dashboard }),
  })
}

/** Batches are padded to one of these lengths: short ones cost less, and each length is compiled once. */
const paddedLengths = (longest: number): number[] => [0.25, 0.5, 0.75, 1].map((share) => Math.ceil(share * longest))

const ownBaseModel = (options: FinetuneOptions, stop: StopSource): Promise<string> =>
  smallBaseModel({
    folder: here('../.cache/small-mistral'),
    tokenizer: here('tokenizer'),
    conversations: here('data'),
    log: say,
    stop,
    ...(options.threads === undefined ? {} : { threads: options.threads }),
  })

await runMain(main)
