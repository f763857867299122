export const schedulerTypes = ['linear', 'cosine', 'constant', 'constantWithWarmup'] as const
export type SchedulerType = (typeof schedulerTypes)[number]

export interface Schedule {
  readonly type: SchedulerType
  /** The rate at factor 1. */
  readonly learningRate: number
  readonly warmupSteps: number
  readonly totalSteps: number
}

/**
 * The factor on the learning rate after `completed` optimizer steps, as in Transformers' `optimization.py`
 * (`get_linear_schedule_with_warmup`, `get_cosine_schedule_with_warmup`, `get_constant_schedule`,
 * `get_constant_schedule_with_warmup`). With warm-up the first step therefore runs at rate 0.
 */
export function scheduleFactor(schedule: Omit<Schedule, 'learningRate'>, completed: number): number {
  const { type, warmupSteps, totalSteps } = schedule
  if (type === 'constant') return 1
  if (completed < warmupSteps) return completed / Math.max(1, warmupSteps)
  switch (type) {
    case 'constantWithWarmup':
      return 1
    case 'linear':
      return Math.max(0, (totalSteps - completed) / Math.max(1, totalSteps - warmupSteps))
    case 'cosine': {
      const progress = (completed - warmupSteps) / Math.max(1, totalSteps - warmupSteps)
      return Math.max(0, 0.5 * (1 + Math.cos(Math.PI * progress)))
    }
  }
}

/** The rate of the update that follows `completed` optimizer steps. */
export function learningRateAt(schedule: Schedule, completed: number): number {
  return schedule.learningRate * scheduleFactor(schedule, completed)
}

/** Warm-up in steps: as given, or the ratio of all steps rounded up (Transformers' `get_warmup_steps`). */
export function resolveWarmupSteps(
  options: { readonly warmupSteps: number; readonly warmupRatio: number },
  totalSteps: number,
): number {
  return options.warmupSteps > 0 ? options.warmupSteps : Math.ceil(options.warmupRatio * totalSteps)
}

/** Updates per epoch: the last one of an epoch takes the micro-batches that are left, nothing is carried over. */
export function updatesPerEpoch(microBatches: number, accumulation: number): number {
  return Math.ceil(microBatches / accumulation)
}

/** Optimizer steps of a whole run: `maxSteps` where it is positive, else the epochs' updates, rounded up. */
export function countSteps(o: {
  readonly microBatchesPerEpoch: number
  readonly gradientAccumulationSteps: number
  readonly numTrainEpochs: number
  readonly maxSteps: number
}): number {
  if (o.maxSteps > 0) return o.maxSteps
  return Math.ceil(o.numTrainEpochs * updatesPerEpoch(o.microBatchesPerEpoch, o.gradientAccumulationSteps))
}
