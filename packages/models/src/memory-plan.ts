import type { ModelConfig } from './config.js'
import type { Estimate, EstimateOptions } from './estimate.js'
import { estimate } from './estimate.js'

export interface MemoryPlanOptions extends Omit<EstimateOptions, 'checkpointing' | 'nf4Storage'> {
  /** Default `auto`. */
  checkpointing?: 'none' | 'full' | 'auto'
  /** Default `auto`. */
  nf4Storage?: 'packed' | 'dense' | 'auto'
}

/** How a run makes use of the memory it has. */
export interface MemoryPlan {
  readonly checkpointing: 'none' | 'full'
  readonly nf4Storage: 'packed' | 'dense'
  readonly estimate: Estimate
}

/** From the fastest to the smallest; measured on a CPU, each takes 10 to 30% longer than the one before it. */
const choices = [
  { nf4Storage: 'dense', checkpointing: 'none' },
  { nf4Storage: 'packed', checkpointing: 'none' },
  { nf4Storage: 'dense', checkpointing: 'full' },
  { nf4Storage: 'packed', checkpointing: 'full' },
] as const

/** Memory that a new allocation can have without swapping, in bytes, within the limits of a container. */
export function availableMemory(): number {
  return process.availableMemory()
}

/**
 * The fastest way to train that fits into `availableBytes` (default: what this machine has now), leaving a tenth of it
 * free; the smallest where none fits (then `estimate.fits` is false). Options other than `auto` are kept.
 */
export function planMemory(config: ModelConfig, options: MemoryPlanOptions = {}): MemoryPlan {
  const { checkpointing = 'auto', nf4Storage = 'auto', ...rest } = options
  const availableBytes = rest.availableBytes ?? availableMemory()
  const allowed = choices
    .filter((choice) => checkpointing === 'auto' || choice.checkpointing === checkpointing)
    .filter((choice) => nf4Storage === 'auto' || choice.nf4Storage === nf4Storage)
    .map((choice) => ({
      ...choice,
      estimate: estimate(config, {
        ...rest,
        nf4Storage: choice.nf4Storage,
        checkpointing: choice.checkpointing === 'full',
        availableBytes: 0.9 * availableBytes,
      }),
    }))
  return allowed.find((plan) => plan.estimate.fits) ?? allowed[allowed.length - 1]
}

const gigabytes = (bytes: number): string =>
  bytes < 1e9 ? `${Math.ceil(bytes / 1e6)} MB` : `${(bytes / 1e9).toFixed(bytes < 10e9 ? 2 : 1)} GB`
const millions = (count: number): string =>
  count < 1e9 ? `${(count / 1e6).toFixed(1)} M` : `${(count / 1e9).toFixed(2)} B`

/** An estimate as lines to print before a run. */
export function describeEstimate({ parameters, bytes, fits, secondsPerStep, stepsInBudget }: Estimate): string[] {
  const training = bytes.adapters + bytes.gradients + bytes.optimizer
  const verdict = fits === null ? '' : fits ? ', which fits' : ', more than there is'
  return [
    `parameters: ${millions(parameters.total)}, of which ${millions(parameters.trainable)} are trained`,
    `memory: about ${gigabytes(bytes.total)}${verdict} (weights ${gigabytes(bytes.weights)}, activations ${gigabytes(bytes.activations)}, training ${gigabytes(training)})`,
    ...(secondsPerStep === null ? [] : [`time: about ${secondsPerStep.toPrecision(2)} s per step`]),
    ...(stepsInBudget === null ? [] : [`the time budget holds about ${stepsInBudget} steps`]),
  ]
}
