import { z } from 'zod'
import { TrainerError } from './errors.js'
import { preferenceLossTypes } from './preference.js'
import { schedulerTypes } from './schedule.js'

const strategies = ['no', 'steps', 'epoch'] as const
const count = z.number().int().positive()
const nonNegativeInteger = z.number().int().nonnegative()
const nonNegative = z.number().nonnegative()
const beta = z.number().min(0).lt(1)

/** Transformers writes `constant_with_warmup`; both spellings mean the same. */
const schedulerType = z.preprocess(
  (value) => (value === 'constant_with_warmup' ? 'constantWithWarmup' : value),
  z.enum(schedulerTypes),
)

const shape = {
  /** Sequences per micro-batch. */
  perDeviceTrainBatchSize: count.default(1),
  perDeviceEvalBatchSize: count.default(1),
  /** Micro-batches per optimizer step. */
  gradientAccumulationSteps: count.default(4),
  /**
   * Runs micro-batches of one window that have the same shape as one batch, as far as the memory goes: the same loss and
   * gradients but for rounding, and much faster where a small batch leaves the device idle. `auto`: on GPUs.
   */
  mergeMicroBatches: z.union([z.literal('auto'), z.boolean()]).default('auto'),
  numTrainEpochs: z.number().positive().default(3),
  /** Optimizer steps of the run; -1 lets `numTrainEpochs` decide. */
  maxSteps: z.union([z.literal(-1), count]).default(-1),
  /** Tokens per sequence. */
  maxLength: count.default(256),
  /** Seed of the data order, of dropout and of the adapter's initial weights. */
  seed: nonNegativeInteger.default(42),

  learningRate: nonNegative.default(2e-5),
  lrSchedulerType: schedulerType.default('linear'),
  warmupSteps: nonNegativeInteger.default(0),
  /** Warm-up as a share of all steps; give this or `warmupSteps`. */
  warmupRatio: z.number().min(0).lt(1).default(0),
  weightDecay: nonNegative.default(0),
  adamBeta1: beta.default(0.9),
  adamBeta2: beta.default(0.999),
  adamEpsilon: z.number().positive().default(1e-8),
  /** Gradients are clipped to this global norm; 0 turns clipping off. */
  maxGradNorm: nonNegative.default(1),
  /** LoRA+: the rate of the B matrices (and of DoRA's magnitudes, as in PEFT) is `learningRate` times this. */
  loraplusLrRatio: z.number().positive().nullable().default(null),
  neftuneNoiseAlpha: z.number().positive().nullable().default(null),
  labelSmoothingFactor: z.number().min(0).lt(1).default(0),
  /** Preference training: how strongly the policy is held to the reference (TRL's `beta`), the loss, and for `robust` its share. */
  dpoBeta: z.number().positive().default(0.1),
  dpoLossType: z.enum(preferenceLossTypes).default('sigmoid'),
  dpoLabelSmoothing: z.number().min(0).lt(0.5).default(0),
  /**
   * What the step computes in; weights and moments of the adapter are float32. `float16` scales the loss so that small
   * gradients survive, and halves the scale where large ones overflow.
   */
  precision: z.enum(['float32', 'bfloat16', 'float16']).default('float32'),
  /** The first loss scale of float16, a power of two (PyTorch's GradScaler begins with 65536). */
  initialLossScale: z
    .number()
    .positive()
    .refine((scale) => Number.isInteger(Math.log2(scale)), 'must be a power of two')
    .default(65_536),

  loggingSteps: count.default(1),
  saveStrategy: z.enum(strategies).default('steps'),
  saveSteps: count.default(100),
  /** Checkpoints to keep besides the best one; null keeps all. */
  saveTotalLimit: count.nullable().default(null),
  /** Without `eval` data nothing is evaluated; with it there is always an evaluation at the end. */
  evalStrategy: z.enum(strategies).default('epoch'),
  evalSteps: count.default(100),
  evalOnStart: z.boolean().default(false),
  loadBestModelAtEnd: z.boolean().default(false),
  metricForBestModel: z.enum(['evalLoss', 'evalTokenAccuracy']).default('evalLoss'),
  /** Evaluations without improvement after which the run ends; null never does. */
  earlyStoppingPatience: count.nullable().default(null),
  /** An evaluation is an improvement if the metric is better by more than this. */
  earlyStoppingThreshold: nonNegative.default(0),

  /** Minutes from the start of the process after which the run has stopped, saved; null sets no limit. */
  budgetMinutes: z.number().positive().nullable().default(51),
  /** Steps in a row with a loss or gradient norm that is not finite after which the run stops, saved. */
  maxSkippedSteps: count.default(10),
  tensorboard: z.boolean().default(true),
  /** Port of the live report on 127.0.0.1 (0 takes a free one); null serves none. */
  dashboard: z.number().int().min(0).max(65_535).nullable().default(null),
  /** Puts the old results aside and starts anew. */
  forceRestart: z.boolean().default(false),
  /** Resumes although the options of the recipe differ from the checkpoint's, with a warning for each. */
  acceptChangedOptions: z.boolean().default(false),
}

/** Every rule between options, as [option, problem]. */
function contradictions(o: TrainingOptions): [keyof TrainingOptions, string][] {
  const found: [keyof TrainingOptions, string][] = []
  if (o.warmupSteps > 0 && o.warmupRatio > 0) found.push(['warmupRatio', 'give warmupSteps or warmupRatio, not both'])
  if (o.lrSchedulerType === 'constant' && (o.warmupSteps > 0 || o.warmupRatio > 0)) {
    found.push(['lrSchedulerType', 'constant has no warm-up; use constantWithWarmup'])
  }
  if (o.loadBestModelAtEnd && o.evalStrategy === 'no') {
    found.push(['loadBestModelAtEnd', 'needs evaluations; set evalStrategy to steps or epoch'])
  }
  if (o.earlyStoppingPatience !== null && o.evalStrategy === 'no') {
    found.push(['earlyStoppingPatience', 'needs evaluations; set evalStrategy to steps or epoch'])
  }
  return found
}

/** All options, with the Hugging Face Trainer's names in camelCase and its meanings. */
export type TrainingOptions = { readonly [Name in keyof typeof shape]: z.output<(typeof shape)[Name]> }
export type TrainingOptionsInput = { readonly [Name in keyof typeof shape]?: z.input<(typeof shape)[Name]> }

/** The names of all options, for command lines. */
export const trainingOptionNames = Object.keys(shape) as readonly (keyof TrainingOptions)[]

/**
 * Fills in the defaults (the recipe: rate 2e-5, batch 1, accumulation 4, 3 epochs, linear decay, context 256, a checkpoint
 * every 100 steps, 51 minutes) and checks everything.
 * @throws TrainerError `MIRASTRAL_TRAINER_OPTIONS` that names every problem at once.
 */
export function parseTrainingOptions(input: TrainingOptionsInput = {}): TrainingOptions {
  const given: Record<string, unknown> = { ...input }
  const problems: string[] = []
  const unknown = Object.keys(given).filter((key) => !(key in shape))
  if (unknown.length > 0) problems.push(`unknown option ${unknown.join(', ')}`)

  // Option by option, so that the rules between options are reported together with the rules of single ones.
  const values: Record<string, unknown> = {}
  for (const name of trainingOptionNames) {
    const parsed = shape[name].safeParse(given[name], { reportInput: true })
    values[name] = parsed.success ? parsed.data : shape[name].parse(undefined)
    if (!parsed.success) problems.push(...parsed.error.issues.map((issue) => describeIssue(name, issue)))
  }
  const options = values as TrainingOptions
  problems.push(...contradictions(options).map(([name, problem]) => `${name}: ${problem}`))
  if (problems.length === 0) return options
  throw new TrainerError('MIRASTRAL_TRAINER_OPTIONS', `training options: ${problems.join('; ')}`)
}

function describeIssue(name: string, issue: z.core.$ZodIssue): string {
  return `${name}: ${issue.message.replace(/^Invalid (input|option): /, '')}, got ${JSON.stringify(issue.input)}`
}

/** The options that decide the weights: a checkpoint may only be continued with the same ones. */
export const recipeOptionNames = [
  'perDeviceTrainBatchSize',
  'gradientAccumulationSteps',
  'numTrainEpochs',
  'maxSteps',
  'maxLength',
  'seed',
  'learningRate',
  'lrSchedulerType',
  'warmupSteps',
  'warmupRatio',
  'weightDecay',
  'adamBeta1',
  'adamBeta2',
  'adamEpsilon',
  'maxGradNorm',
  'loraplusLrRatio',
  'neftuneNoiseAlpha',
  'labelSmoothingFactor',
  'dpoBeta',
  'dpoLossType',
  'dpoLabelSmoothing',
  'precision',
  'initialLossScale',
  'mergeMicroBatches',
] as const satisfies readonly (keyof TrainingOptions)[]

export type Recipe = Readonly<Record<(typeof recipeOptionNames)[number], string | number | null>>

export function recipeOf(options: TrainingOptions): Recipe {
  const plain = (value: string | number | boolean | null): string | number | null =>
    typeof value === 'boolean' ? String(value) : value
  return Object.fromEntries(recipeOptionNames.map((name) => [name, plain(options[name])])) as Recipe
}
