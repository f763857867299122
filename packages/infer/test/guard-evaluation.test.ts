import { SafetyGuard, defaultSuite, evaluate, guardGenerator, modelFromGenerator } from '@mirastral/infer'
import { describe, expect, it } from 'vitest'
import { scriptedGenerator } from './support/scripted-generator.js'

describe('a guarded generator in the evaluation', () => {
  it('handles crises that the model by itself does not', async () => {
    const careless = scriptedGenerator(() => ({ pieces: ['Cheer up. ', 'It is not that bad.'] }))
    const guarded = guardGenerator(careless, SafetyGuard.load({ country: 'US' }))
    const suite = defaultSuite()
    const bare = await evaluate(modelFromGenerator(careless), suite, { name: 'bare' })
    const safe = await evaluate(modelFromGenerator(guarded, { includeNotices: true }), suite, { name: 'guarded' })
    const handled = (result: typeof bare): number => result.summary.checks.crisisHandled?.passed ?? 0
    expect(handled(bare)).toBe(0)
    expect(handled(safe)).toBeGreaterThan(0.7 * (safe.summary.checks.crisisHandled?.total ?? 1))
  })
})
