import { readFileSync } from 'node:fs'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { greatestIds } from './logits.js'
import { seededRandom, xoshiro128 } from './random.js'
import { Sampler, tokenLogprobs } from './sample.js'
import type { SamplingOptions } from './text-generator.js'

interface Golden {
  kind: string
  options: SamplingOptions
  allowed: number[] | null
  prompt: number[]
  answer: number[]
  logits: number[]
  scores: (number | null)[]
  logSoftmax: number[]
  greedy: number
}

const goldens = JSON.parse(
  readFileSync(new URL('../../../fixtures/infer/logits.json', import.meta.url), 'utf8'),
) as Golden[]

function bitmask(ids: number[], vocabSize: number): Uint32Array {
  const mask = new Uint32Array(Math.ceil(vocabSize / 32))
  for (const id of ids) mask[id >> 5] |= 1 << (id & 31)
  return mask
}

/** The greatest difference in units of the float32 grid; Infinity where one is removed and the other is not. */
function ulps(actual: number, expected: number | null): number {
  if (expected === null) return actual === -Infinity ? 0 : Infinity
  if (actual === -Infinity) return Infinity
  return Math.abs(actual - expected) / Math.max(Math.abs(expected) * 2 ** -23, 2 ** -40)
}

describe("the processors follow Transformers' generate", () => {
  it.each(goldens.map((g, i) => [i, g.kind, JSON.stringify({ ...g.options, allowed: g.allowed }), g] as const))(
    'golden %i: %s logits with %s',
    (_index, _kind, _options, golden) => {
      const sampler = new Sampler(golden.options, golden.prompt, 0)
      for (const id of golden.answer) sampler.accept(id)
      const logits = Float32Array.from(golden.logits)
      const allowed = golden.allowed === null ? undefined : bitmask(golden.allowed, logits.length)
      const scores = Array.from(sampler.process(logits, allowed))
      const worst = Math.max(...scores.map((s, id) => ulps(s, golden.scores[id])))
      expect(worst).toBeLessThanOrEqual(1.01)
      expect(logits).toEqual(Float32Array.from(golden.logits))
      if (golden.options.temperature === 0) expect(sampler.next(logits, allowed)).toBe(golden.greedy)

      const { chosen, top } = tokenLogprobs(logits, golden.answer[0], 5)
      const expected = golden.logSoftmax.map((logprob, tokenId) => ({ tokenId, logprob }))
      const best = expected.toSorted((a, b) => b.logprob - a.logprob || a.tokenId - b.tokenId).slice(0, 5)
      expect(top.map((t) => t.tokenId)).toEqual(best.map((t) => t.tokenId))
      top.forEach((t, i) => expect(t.logprob).toBeCloseTo(best[i].logprob, 12))
      expect(chosen.logprob).toBeCloseTo(golden.logSoftmax[golden.answer[0]], 12)
    },
  )
})

describe('Sampler', () => {
  const row = Float32Array.from([1, 3, 2, -1, 3, 0.5])

  it('takes the lowest of several equally likely tokens at temperature 0', () => {
    expect(new Sampler({ temperature: 0 }, [], 1).next(row)).toBe(1)
  })

  it('draws the same tokens for the same seed and others for another', () => {
    const draw = (seed: number): number[] => {
      const sampler = new Sampler({ seed }, [], 99)
      return Array.from({ length: 40 }, () => sampler.next(row))
    }
    expect(draw(7)).toEqual(draw(7))
    expect(draw(7)).not.toEqual(draw(8))
    expect(draw(-7)).not.toEqual(draw(7))
  })

  it('draws each token as often as its probability says', () => {
    const sampler = new Sampler({ seed: 3 }, [], 0)
    const counts = new Float64Array(row.length)
    const draws = 40_000
    for (let i = 0; i < draws; i++) counts[sampler.next(row)]++
    const weights = Array.from(row, Math.exp)
    const total = weights.reduce((a, b) => a + b)
    // Pearson's statistic: with 5 degrees of freedom it exceeds 20.5 once in a thousand seeds; this seed is fixed.
    const chi2 = weights.reduce((sum, w, id) => {
      const expected = (draws * w) / total
      return sum + (counts[id] - expected) ** 2 / expected
    }, 0)
    expect(chi2).toBeLessThan(20.5)
  })

  it('never draws a token that was removed', () => {
    fc.assert(
      fc.property(
        fc.array(fc.float({ min: -30, max: 30, noNaN: true }), { minLength: 2, maxLength: 70 }),
        fc.integer(),
        fc.record({
          temperature: fc.double({ min: 0.05, max: 5, noNaN: true }),
          topK: fc.integer({ min: 0, max: 80 }),
          topP: fc.double({ min: 0.001, max: 1, noNaN: true }),
          minP: fc.double({ min: 0, max: 1, noNaN: true }),
        }),
        (values, seed, options) => {
          const logits = Float32Array.from(values)
          const sampler = new Sampler({ ...options, seed }, [], 0)
          const kept = Array.from(sampler.process(logits))
          expect(kept.some((s) => s > -Infinity)).toBe(true)
          expect(kept[sampler.next(logits)]).toBeGreaterThan(-Infinity)
        },
      ),
    )
  })

  it('refuses logits that are not numbers and an empty choice', () => {
    const nan = Float32Array.from([1, NaN, 2])
    expect(() => new Sampler({ temperature: 0 }, [], 0).next(nan)).toThrow(
      'Sampler: the logits must be finite numbers, got NaN or Infinity',
    )
    expect(() => new Sampler({}, [], 0).next(row, new Uint32Array(1))).toThrow(
      'Sampler: the logits must be finite numbers, no token is allowed',
    )
  })
})

describe('greatestIds', () => {
  it('gives the same ids as sorting everything', () => {
    fc.assert(
      fc.property(fc.array(fc.float({ noNaN: true }), { minLength: 1, maxLength: 60 }), fc.nat(60), (values, n) => {
        const logits = Float32Array.from(values)
        const expected = Array.from(logits.keys()).toSorted((a, b) => logits[b] - logits[a] || a - b)
        // Infinity minus Infinity is no order; the property is about finite logits.
        fc.pre(values.every(Number.isFinite))
        expect(greatestIds(logits, Math.max(1, n))).toEqual(expected.slice(0, Math.max(1, n)))
      }),
    )
  })
})

describe('seededRandom', () => {
  it('is xoshiro128**: the sequence that its reference program prints from the state 1, 2, 3, 4', () => {
    const next = xoshiro128(Uint32Array.of(1, 2, 3, 4))
    expect(Array.from({ length: 10 }, next)).toEqual([
      11520, 0, 5927040, 70819200, 2031721883, 1637235492, 1287239034, 3734860849, 3729100597, 4258142804,
    ])
  })

  it('gives distinct, repeatable numbers in [0, 1) around one half', () => {
    const random = seededRandom(0)
    const values = Array.from({ length: 1000 }, () => random.next())
    expect(values.every((v) => v >= 0 && v < 1)).toBe(true)
    expect(new Set(values).size).toBe(1000)
    const again = seededRandom(0)
    expect(Array.from({ length: 1000 }, () => again.next())).toEqual(values)
    const mean = values.reduce((a, b) => a + b) / values.length
    expect(Math.abs(mean - 0.5)).toBeLessThan(0.04)
  })
})
