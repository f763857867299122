import { describe, expect, it } from 'vitest'
import { followGradients, initialLossScale, lossScaleOf } from './loss-scale.js'
import { parseTrainingOptions } from './options.js'

describe('the loss scale', () => {
  it("follows PyTorch's GradScaler: halved at each overflow, doubled after 2000 good steps in a row", () => {
    const state = { lossScale: initialLossScale(65_536) }
    followGradients(state, false)
    followGradients(state, false)
    expect(state.lossScale).toEqual({ scale: 16_384, goodSteps: 0, overflows: 2 })
    for (let i = 0; i < 1999; i++) followGradients(state, true)
    expect(state.lossScale).toEqual({ scale: 16_384, goodSteps: 1999, overflows: 2 })
    followGradients(state, false)
    for (let i = 0; i < 2000; i++) followGradients(state, true)
    expect(state.lossScale).toEqual({ scale: 16_384, goodSteps: 0, overflows: 3 })
  })

  it('is divided by the tokens that a window can have, as a power of two, or by its pairs', () => {
    const options = parseTrainingOptions({ perDeviceTrainBatchSize: 3, gradientAccumulationSteps: 4, maxLength: 256 })
    const state = { lossScale: initialLossScale(65_536) } as never
    expect(lossScaleOf({ state, options, step: {} as never })).toBe(65_536 / 4096)
    expect(lossScaleOf({ state, options, step: { counts: 'pairs' } as never })).toBe(65_536 / 16)
    expect(lossScaleOf({ state: { lossScale: null } as never, options, step: {} as never })).toBe(1)
  })
})
