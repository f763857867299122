// What a run is told, in the words of the trainer and of the adapter.
import type { LoraPlan, ModuleInfo } from '@mirastral/lora'
import { parseLoraConfig, planLora } from '@mirastral/lora'
import type { TrainingOptions } from '@mirastral/trainer'
import { parseTrainingOptions } from '@mirastral/trainer'
import type { FinetuneOptions } from './command-line.js'
import { computeDtype } from './placement.js'

/** Preferences are learned at lower rates than conversations, and a small model learns at higher ones. */
const LEARNING_RATES = { sft: { real: 2e-5, small: 1e-3 }, dpo: { real: 1e-5, small: 1e-4 } } as const

/** The recipe of the Hugging Face Trainer in its own words. */
export function recipeOf(options: FinetuneOptions): TrainingOptions {
  return parseTrainingOptions({
    learningRate:
      options['learning-rate'] ?? LEARNING_RATES[options.objective][options.model === undefined ? 'small' : 'real'],
    numTrainEpochs: options.epochs,
    perDeviceTrainBatchSize: options['batch-size'],
    perDeviceEvalBatchSize: options['batch-size'],
    gradientAccumulationSteps: options.accumulation,
    maxLength: options['max-length'],
    saveSteps: options['save-steps'],
    budgetMinutes: options['budget-minutes'],
    seed: options.seed,
    dpoBeta: options['dpo-beta'],
    dpoLossType: options['dpo-loss-type'],
    dpoLabelSmoothing: options['dpo-label-smoothing'],
    precision: computeDtype(options),
    forceRestart: options['force-restart'],
    ...(options.dashboard === undefined ? {} : { dashboard: options.dashboard }),
  })
}

export function adapterPlan(options: FinetuneOptions, modules: readonly ModuleInfo[], baseModel: string): LoraPlan {
  const lora = parseLoraConfig({
    r: options.rank,
    loraAlpha: options.alpha,
    loraDropout: options.dropout,
    targetModules: options.targets.split(','),
    initLoraWeights: options.init === 'default' ? true : options.init,
    taskType: 'CAUSAL_LM',
    baseModelNameOrPath: baseModel,
  })
  return planLora(lora, modules)
}

export function adapterName({ rank, alpha, dropout, targets, init }: FinetuneOptions): string {
  const began = init === 'default' ? '' : `, began as ${init}`
  return `r=${rank} alpha=${alpha} dropout=${dropout} on ${targets}${began}`
}

export function objectiveName(options: FinetuneOptions): string {
  if (options.objective === 'sft') return 'conversations'
  return `preferences: ${options['dpo-loss-type']}, beta ${options['dpo-beta']}, label smoothing ${options['dpo-label-smoothing']}`
}

/** Batches are padded to one of these lengths: short ones cost less, and each length is compiled once. */
export const paddedLengths = (longest: number): number[] =>
  [0.25, 0.5, 0.75, 1].map((share) => Math.ceil(share * longest))
