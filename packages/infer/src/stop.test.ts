import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { StopMatcher } from './stop.js'

function run(stops: string[], pieces: string[]): { shown: string[]; stopped: boolean } {
  const matcher = new StopMatcher(stops)
  const shown: string[] = []
  for (const piece of pieces) {
    const step = matcher.push(piece)
    shown.push(step.text)
    if (step.stopped) return { shown, stopped: true }
  }
  return { shown: [...shown, matcher.flush()], stopped: false }
}

describe('StopMatcher', () => {
  it('shows nothing of a stop string that is split over pieces', () => {
    expect(run(['</end>'], ['Take care', ' <', '/e', 'nd', '> more'])).toEqual({
      shown: ['Take care', ' ', '', '', ''],
      stopped: true,
    })
  })

  it('releases what only looked like a stop string', () => {
    expect(run(['</end>'], ['a </', 'en', 'vy'])).toEqual({ shown: ['a ', '', '</envy', ''], stopped: false })
    expect(run(['</end>'], ['a </e'])).toEqual({ shown: ['a ', '</e'], stopped: false })
  })

  it('ends before the first of several stop strings, also inside one piece', () => {
    expect(run(['User:', '\n\n'], ['fine.\n\nUser: hi'])).toEqual({ shown: ['fine.'], stopped: true })
  })

  it('finds a stop string that overlaps its own beginning', () => {
    expect(run(['aab'], ['a', 'a', 'a', 'b'])).toEqual({ shown: ['', '', 'a', ''], stopped: true })
  })

  it('ignores empty stop strings', () => {
    expect(run([''], ['a'])).toEqual({ shown: ['a', ''], stopped: false })
  })

  it('shows exactly the text before the first stop string, however the text is cut', () => {
    const text = fc.string({ unit: fc.constantFrom('a', 'b', 'c', '🙂'), maxLength: 24 })
    const stop = fc.string({ unit: fc.constantFrom('a', 'b', '🙂'), minLength: 1, maxLength: 4 })
    fc.assert(
      fc.property(
        text,
        fc.array(stop, { maxLength: 3 }),
        fc.array(fc.nat(3), { maxLength: 24 }),
        (all, stops, cuts) => {
          const characters = Array.from(all)
          const pieces: string[] = []
          for (let i = 0, at = 0; at < characters.length; i++) {
            const size = (cuts[i] ?? 1) + 1
            pieces.push(characters.slice(at, at + size).join(''))
            at += size
          }
          const { shown, stopped } = run(stops, pieces)
          // The first piece of the text after which a whole stop string has been seen decides, as in `generate`.
          let seen = ''
          let end = all.length
          for (const piece of pieces) {
            seen += piece
            const found = stops.map((s) => seen.indexOf(s)).filter((at) => at !== -1)
            if (found.length > 0) {
              end = Math.min(...found)
              break
            }
          }
          expect(shown.join('')).toBe(all.slice(0, end))
          expect(stopped).toBe(end !== all.length || stops.some((s) => all.endsWith(s) && all.indexOf(s) === end))
          for (const piece of shown) expect(piece).not.toMatch(/\p{Surrogate}/u)
        },
      ),
    )
  })
})
