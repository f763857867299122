import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import type { SchedulerType } from './schedule.js'
import { countSteps, learningRateAt, resolveWarmupSteps, updatesPerEpoch } from './schedule.js'

interface Golden {
  schedules: { type: SchedulerType; warmupSteps: number; totalSteps: number; rates: number[] }[]
  warmups: { warmupSteps: number; warmupRatio: number; totalSteps: number; expected: number }[]
}

const golden = JSON.parse(
  readFileSync(new URL('../../../fixtures/trainer/schedules.json', import.meta.url), 'utf8'),
) as Golden

describe('learning rate schedules', () => {
  it.each(golden.schedules)('equal Transformers: $type, $warmupSteps of $totalSteps steps of warm-up', (expected) => {
    const schedule = { ...expected, learningRate: 2e-5 }
    const rates = expected.rates.map((_, completed) => learningRateAt(schedule, completed))
    // Cosines of two libraries may differ in the last bit.
    rates.forEach((rate, i) => expect(Math.abs(rate - expected.rates[i])).toBeLessThanOrEqual(1e-15 * 2e-5))
  })

  it.each(golden.warmups)('round a warm-up of $warmupSteps or $warmupRatio of $totalSteps up', (warmup) => {
    expect(resolveWarmupSteps(warmup, warmup.totalSteps)).toBe(warmup.expected)
  })

  it('count the steps of a run as the Trainer does', () => {
    const run = { microBatchesPerEpoch: 10, gradientAccumulationSteps: 4, numTrainEpochs: 3, maxSteps: -1 }
    expect(updatesPerEpoch(10, 4)).toBe(3)
    expect(countSteps(run)).toBe(9)
    expect(countSteps({ ...run, numTrainEpochs: 0.5 })).toBe(2)
    expect(countSteps({ ...run, maxSteps: 50 })).toBe(50)
  })
})
