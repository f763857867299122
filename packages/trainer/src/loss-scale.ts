import type { Run } from './run.js'
import type { LoopState } from './state.js'

/** PyTorch's `GradScaler`: halved where a gradient is not finite, doubled after so many steps in which all were. */
const growthInterval = 2000

export interface LossScale {
  scale: number
  /** Steps since the scale last changed. */
  goodSteps: number
  /** Steps that were skipped for an overflow: the schedule does not count them. */
  overflows: number
}

export const initialLossScale = (scale: number): LossScale => ({ scale, goodSteps: 0, overflows: 0 })

/** `GradScaler.update` after the gradients of a step. */
export function followGradients({ lossScale }: Pick<LoopState, 'lossScale'>, areFinite: boolean): void {
  if (lossScale === null) return
  if (!areFinite) {
    lossScale.scale /= 2
    lossScale.goodSteps = 0
    lossScale.overflows++
  } else if (++lossScale.goodSteps === growthInterval) {
    lossScale.scale *= 2
    lossScale.goodSteps = 0
  }
}

/**
 * What a step multiplies its summed loss by. `GradScaler` scales a mean; a window has at most so many tokens (pairs) as are
 * divided by here, rounded up to a power of two, so that scaling and unscaling change no bit of what neither overflows
 * nor underflows.
 */
export function lossScaleOf<B>({ state, options, step }: Pick<Run<B>, 'state' | 'options' | 'step'>): number {
  if (state.lossScale === null) return 1
  const { perDeviceTrainBatchSize, gradientAccumulationSteps, maxLength } = options
  const rows = perDeviceTrainBatchSize * gradientAccumulationSteps
  const counted = step.counts === 'pairs' ? rows : rows * maxLength
  return state.lossScale.scale / 2 ** Math.ceil(Math.log2(counted))
}
