import type { BatchSource } from './batches.js'
import type { TimeBudget, WorkKind } from './budget.js'
import type { TrainerEvents } from './events.js'
import type { MetricLogs } from './metrics.js'
import type { TrainingOptions } from './options.js'
import type { Schedule } from './schedule.js'
import type { StopSource } from './signals.js'
import type { SpeedMeter } from './speed.js'
import type { LoopState } from './state.js'
import type { TrainStep } from './step.js'
import type { WindowCache } from './window.js'

/** A run in progress: everything that its loop works on and with. */
export interface Run<B> {
  readonly step: TrainStep<B>
  readonly train: BatchSource<B>
  readonly evaluation: BatchSource<B> | null
  readonly options: TrainingOptions
  readonly schedule: Schedule
  readonly state: LoopState
  /** `log_history` of `trainer_state.json`. */
  readonly logHistory: object[]
  readonly logs: MetricLogs
  readonly events: TrainerEvents
  readonly budget: TimeBudget
  readonly stop: StopSource
  readonly speed: SpeedMeter
  /** Writes a checkpoint of the state as it is. */
  readonly save: () => Promise<void>
  windowCache: WindowCache<B> | null
}

/** Runs a piece of work and remembers how long it took, for the budget and the speed. */
export async function timed<B, T>(run: Run<B>, kind: WorkKind, work: () => Promise<T>): Promise<T> {
  const start = run.budget.elapsedSeconds
  const result = await work()
  const seconds = run.budget.elapsedSeconds - start
  run.budget.record(kind, seconds)
  if (kind === 'microStep' || kind === 'update') run.speed.addSeconds(seconds)
  return result
}

export function isLastStep<B>(run: Run<B>): boolean {
  return run.state.step >= run.schedule.totalSteps
}

/** Epochs done as a fraction, as the Hugging Face Trainer counts them. */
export function epochOf<B>(run: Run<B>): number {
  return run.state.epoch + run.state.position / run.train.length
}

/** Tells how far the current step, or evaluation, is. */
export function emitProgress<B>(run: Run<B>): void {
  const { state, evaluation } = run
  const step = state.startStep + state.step
  if (state.phase === 'evaluate') {
    const { position } = state.evaluation
    run.events.emit({ type: 'progress', step, phase: 'evaluate', done: position, of: evaluation?.length ?? 0 })
  } else {
    run.events.emit({ type: 'progress', step, phase: 'train', done: state.window.microBatches, of: windowSize(run) })
  }
}

/** Micro-batches of the current window: fewer in the last one of an epoch. */
export function windowSize<B>(run: Run<B>): number {
  const { position, window } = run.state
  const begin = position - window.microBatches
  return Math.min(run.options.gradientAccumulationSteps, run.train.length - begin)
}
