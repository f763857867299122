// The full fine-tune, from folders of conversations to an adapter that speaks. Read it from top to bottom.
//
//   npx -y pnpm@10 run finetune                                          the sample data on a small model
//   npx -y pnpm@10 run finetune --model FOLDER --data FOLDER --out DIR   your own
import { createHash } from 'node:crypto'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { Ledger, prepareDataset } from '@mirastral/data'
import { ortBackend } from '@mirastral/engine'
import { createTextGenerator } from '@mirastral/infer'
import { initializeAdapter, loadAdapter, modulesOfModel, parseLoraConfig, planLora, saveAdapter } from '@mirastral/lora'
import { loadModel } from '@mirastral/models'
import {
  batchesOf,
  createTrainStep,
  inspectRun,
  parseTrainingOptions,
  showProgress,
  train,
  TrainerEvents,
} from '@mirastral/trainer'
import { smallBaseModel } from './lib/base-model.js'
import type { FinetuneOptions } from './lib/command-line.js'
import { readOptions, runMain } from './lib/command-line.js'
import { sampleAnswer, say, showData } from './lib/show.js'

const here = (path: string): string => fileURLToPath(new URL(path, import.meta.url))
const hashOf = (value: unknown): string => createHash('sha256').update(JSON.stringify(value)).digest('hex')

/** What both models are asked at the end. */
const QUESTION = 'I keep waking up at four and going over everything I said at work.'

async function main(): Promise<number> {
  const options = readOptions(process.argv.slice(2))
  if (options === 'help') return 0
  const recipe = recipeOf(options)
  const backend = ortBackend(options.threads === undefined ? {} : { threads: options.threads })

  // 1. The base model: its linear layers become NF4 while they are read.
  const source = options.model ?? (await ownBaseModel(options))
  const model = await loadModel(source, { quantization: 'nf4' })
  for (const warning of model.warnings) say(`note: ${warning}`)

  // 2. The conversations. A run that was interrupted goes on with the files that it began with.
  const before = await inspectRun(options.out)
  const started = before.state === 'unfinished' && !options['force-restart'] ? (before.sources as string[]) : null
  const ledger = await Ledger.open(join(options.out, 'processed_files.jsonl'))
  try {
    say(
      `reading conversations from ${(started ?? options.data ?? ['the sample data']).length > 3 ? 'the files of the interrupted run' : (options.data ?? ['examples/data']).join(', ')}`,
    )
    const data = await prepareDataset({
      inputs: started ?? options.data ?? [here('data')],
      tokenizer: model.folder,
      ledger,
      options: { maxLength: options['max-length'], evalFraction: options['eval-fraction'] },
    })
    showData(data.report)
    const used = data.report.files.filter((file) => file.status === 'used')

    // 3. The adapter: which layers, which rank, which first values.
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

    // 4. Training: resumes, stops in time, saves whole checkpoints.
    const events = new TrainerEvents()
    const endProgress = showProgress(events, { stream: process.stdout, elapsed: () => process.uptime() })
    const batches = {
      batchSize: recipe.perDeviceTrainBatchSize,
      padTokenId: data.tokenizer.padTokenId,
      sequenceLength: lengths(options['max-length']),
    }
    const result = await train({
      outputDir: options.out,
      options: recipe,
      identity: {
        model: model.identity,
        adapter: hashOf(lora),
        tokenizer: data.tokenizer.hash,
        preparation: hashOf([options['max-length'], options['eval-fraction']]),
        data: hashOf(used.map((file) => file.sha256)),
      },
      sources: used.map((file) => file.path),
      data:
        data.report.train.examples === 0
          ? null
          : {
              train: batchesOf(data.train, { ...batches, seed: options.seed }),
              eval: batchesOf(data.eval, batches),
            },
      step: async () =>
        createTrainStep({
          backend,
          model,
          adapter: await initializeAdapter(plan, { seed: options.seed }),
          options: recipe,
          checkpointing: options.checkpointing,
        }),
      saveAdapter: (folder, tensors) => saveAdapter(folder, { plan, tensors }),
      events,
    })
    endProgress()
    say(result.message)

    // 5. Files count as processed only now that what they taught is safe.
    const isDone = result.status === 'finished' || result.status === 'nothing-new'
    if (isDone && used.length > 0)
      await data.commit({ steps: [1, Math.max(1, result.step)], adapter: result.finalModel ?? '' })
    if (result.status !== 'finished' || result.finalModel === null) return result.exitCode

    // 6. The adapter speaks.
    say(`train loss ${result.trainLoss?.toFixed(4) ?? '-'}, eval loss ${result.evaluation?.evalLoss.toFixed(4) ?? '-'}`)
    const trained = await loadAdapter(result.finalModel, modules)
    say(`\nasked: ${QUESTION}`)
    for (const [name, adapter] of [
      ['before', null],
      ['after', trained],
    ] as const) {
      const generator = await createTextGenerator({ model, adapter, backend, contextLength: 512 })
      say(`${name}: ${await sampleAnswer(generator, QUESTION)}`)
      await generator.dispose()
    }
    if (options.model === undefined)
      say('\nThe small model has read nothing but the sample conversations; see --model for real ones.')
    say(`the adapter is in ${result.finalModel}`)
    return result.exitCode
  } finally {
    await ledger.close()
    await model.weights.close()
  }
}

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
const lengths = (longest: number): number[] => [0.25, 0.5, 0.75, 1].map((share) => Math.ceil(share * longest))

const ownBaseModel = (options: FinetuneOptions): Promise<string> =>
  smallBaseModel({
    folder: here('../.cache/small-mistral'),
    tokenizer: here('tokenizer'),
    conversations: here('data'),
    log: say,
    ...(options.threads === undefined ? {} : { threads: options.threads }),
  })

await runMain(main)
