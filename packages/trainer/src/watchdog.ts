/** What the spike detector remembers; plain JSON, part of every checkpoint. */
export interface SpikeState {
  readonly count: number
  readonly mean: number
  readonly deviation: number
}

export const initialSpikeState: SpikeState = { count: 0, mean: 0, deviation: 0 }

const memory = 0.95
const stepsBeforeFirstWarning = 20
const deviations = 8

/**
 * Follows the loss with exponential means (memory 0.95) of its value and of its absolute deviation. A loss is a spike if,
 * after 20 steps, it lies more than 8 deviations and more than half above the mean. A spike does not move the mean by more
 * than the limit it broke, so that the second step of a rise is still reported.
 */
export function followLoss(state: SpikeState, loss: number): { state: SpikeState; spike: boolean } {
  if (!Number.isFinite(loss)) return { state, spike: false }
  if (state.count === 0) return { state: { count: 1, mean: loss, deviation: 0 }, spike: false }
  const limit = Math.max(state.mean + deviations * state.deviation, state.mean + 0.5 * Math.abs(state.mean))
  const spike = state.count >= stepsBeforeFirstWarning && loss > limit
  const seen = spike ? limit : loss
  // With few values a plain mean is nearer than an exponential one.
  const keep = Math.min(memory, state.count / (state.count + 1))
  const next: SpikeState = {
    count: state.count + 1,
    mean: keep * state.mean + (1 - keep) * seen,
    deviation: keep * state.deviation + (1 - keep) * Math.abs(seen - state.mean),
  }
  return { state: next, spike }
}
