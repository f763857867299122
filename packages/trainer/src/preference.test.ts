import { readFileSync } from 'node:fs'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { PairLogProbs, PreferenceLossType } from './preference.js'
import { preferenceLoss, preferenceLossTypes, preferenceMetrics } from './preference.js'

interface Golden {
  logProbs: number[]
  reference: number[]
  completionTokens: number[]
  cases: {
    lossType: PreferenceLossType
    beta: number
    labelSmoothing: number
    loss: number
    gradient: number[]
    metrics: Record<string, number>
  }[]
}

const golden = JSON.parse(
  readFileSync(new URL('../../../fixtures/trainer/preference.json', import.meta.url), 'utf8'),
) as Golden
const count = golden.logProbs.length / 2
const pairs = Array.from({ length: count }, (_, i): PairLogProbs => ({
  chosen: golden.logProbs[i],
  rejected: golden.logProbs[count + i],
  referenceChosen: golden.reference[i],
  referenceRejected: golden.reference[count + i],
  chosenTokens: golden.completionTokens[i],
  rejectedTokens: golden.completionTokens[count + i],
}))

describe('preference losses', () => {
  it.each(golden.cases)('equal TRL: $lossType, beta $beta', (expected) => {
    const losses = pairs.map((pair) => preferenceLoss(pair, expected))
    const mean = losses.reduce((sum, { loss }) => sum + loss, 0) / count
    expect(mean).toBeCloseTo(expected.loss, 5)
    const gradient = [...losses.map((l) => l.chosenGradient), ...losses.map((l) => l.rejectedGradient)]
    gradient.forEach((g, i) => expect(g / count).toBeCloseTo(expected.gradient[i], 5))
    const sums = preferenceMetrics(pairs, losses)
    expect(Object.keys(sums).sort()).toEqual(Object.keys(expected.metrics).sort())
    for (const [name, value] of Object.entries(expected.metrics)) expect(sums[name] / count).toBeCloseTo(value, 4)
  })

  it('have the derivatives that central differences give', () => {
    const logProb = fc.double({ min: -40, max: 0, noNaN: true })
    const tokens = fc.integer({ min: 1, max: 30 })
    const pair = fc.record({
      chosen: logProb,
      rejected: logProb,
      referenceChosen: logProb,
      referenceRejected: logProb,
      chosenTokens: tokens,
      rejectedTokens: tokens,
    })
    fc.assert(
      fc.property(
        pair,
        fc.constantFrom(...preferenceLossTypes),
        fc.double({ min: 0.05, max: 1, noNaN: true }),
        (p, lossType, beta) => {
          const options = { lossType, beta, labelSmoothing: 0.1 }
          const at = (change: Partial<PairLogProbs>): number => preferenceLoss({ ...p, ...change }, options).loss
          const margin = beta * (p.chosen - p.referenceChosen - p.rejected + p.referenceRejected)
          fc.pre(lossType !== 'hinge' || Math.abs(margin - 1) > 1e-3)
          const h = 1e-4
          const { chosenGradient, rejectedGradient } = preferenceLoss(p, options)
          expect(chosenGradient).toBeCloseTo((at({ chosen: p.chosen + h }) - at({ chosen: p.chosen - h })) / (2 * h), 4)
          expect(rejectedGradient).toBeCloseTo(
            (at({ rejected: p.rejected + h }) - at({ rejected: p.rejected - h })) / (2 * h),
            4,
          )
        },
      ),
    )
  })

  it('are log 2 where policy and reference are equal, and finite for extreme pairs', () => {
    const equal = {
      chosen: -3,
      rejected: -5,
      referenceChosen: -3,
      referenceRejected: -5,
      chosenTokens: 3,
      rejectedTokens: 3,
    }
    const options = { lossType: 'sigmoid', beta: 0.1, labelSmoothing: 0 } as const
    expect(preferenceLoss(equal, options).loss).toBeCloseTo(Math.LN2, 12)
    const extreme = { ...equal, chosen: -1e6, referenceRejected: -1e6 }
    expect(preferenceLoss(extreme, { ...options, beta: 1 }).loss).toBeCloseTo(2e6 - 8, 3)
  })
})
