import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { Automaton } from './automaton.js'
import type { State } from './automaton.js'
import type { Grammar } from './grammar.js'
import { integersIn, numbersIn } from './number-ranges.js'
import { compileGrammar } from './program.js'

function taker(grammar: Grammar): (text: string) => boolean {
  const automaton = new Automaton(compileGrammar({ start: grammar, rules: new Map() }))
  return (text) => {
    let state: State | null = automaton.start()
    for (const byte of Buffer.from(text)) {
      state = automaton.step(state, byte)
      if (state === null) return false
    }
    return state.accepting
  }
}

const bound = fc.oneof(fc.integer({ min: -30, max: 30 }), fc.integer({ min: -200_000, max: 200_000 }))

describe('integersIn and numbersIn', () => {
  it('take exactly the numbers inside the bounds', () => {
    fc.assert(
      fc.property(
        bound,
        bound,
        fc.boolean(),
        fc.boolean(),
        fc.array(fc.integer({ min: -5, max: 5 })),
        (a, b, x, y, near) => {
          const range = { low: Math.min(a, b), high: Math.max(a, b), lowExcluded: x, highExcluded: y }
          const inside = (v: number): boolean =>
            (x ? v > range.low : v >= range.low) && (y ? v < range.high : v <= range.high)
          fc.pre(range.high - range.low >= 2)
          const takesInteger = taker(integersIn(range))
          const takesNumber = taker(numbersIn(range))
          const candidates = near.flatMap((n) => [range.low + n, range.high + n, Math.round((a + b) / 2) + n, n])
          for (const v of candidates) {
            expect([v, takesInteger(String(v))]).toEqual([v, inside(v)])
            for (const w of [v, v + 0.5, v - 0.125]) expect([w, takesNumber(String(w))]).toEqual([w, inside(w)])
          }
          for (const odd of ['-0', '00', '+1', '1.', '.5', '']) expect([odd, takesInteger(odd)]).toEqual([odd, false])
        },
      ),
    )
  })

  it('cannot be read as a number outside, however many digits are written', () => {
    const takes = taker(numbersIn({ low: 0, high: 1, lowExcluded: true, highExcluded: true }))
    const nines = (n: number): string => `0.${'9'.repeat(n)}`
    for (let n = 1; n < 25; n++) if (takes(nines(n))) expect(Number(nines(n))).toBeLessThan(1)
    expect(takes(nines(10))).toBe(true)
    expect(takes(nines(20))).toBe(false)
    expect(takes('0.0')).toBe(false)
    expect(takes('0.001')).toBe(true)
  })
})
