import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { Automaton } from './automaton.js'
import type { State } from './automaton.js'
import { baseRules } from './json-grammar.js'
import { compileGrammar } from './program.js'
import { UnsupportedPattern, patternGrammar } from './regex.js'

/** Whether the pattern's grammar takes the text as it stands between the quotes of a JSON string. */
function follows(pattern: string, text: string): boolean {
  const start = patternGrammar(pattern, (body) => body)
  const automaton = new Automaton(compileGrammar({ start, rules: baseRules() }))
  let state: State | null = automaton.start()
  for (const byte of Buffer.from(JSON.stringify(text).slice(1, -1))) {
    state = automaton.step(state, byte)
    if (state === null) return false
  }
  return state.accepting
}

const atom = fc.constantFrom('a', 'b', 'é', '🙂', '.', '"', '\\\\', '\\n', '\\d', '\\w', '\\S', '[ab]', '[^a]', '[a-c🙂]', '[\\d"]', '\\u00e9', '\\x61') // prettier-ignore
const quantifier = fc.constantFrom('', '', '', '*', '+', '?', '{2}', '{1,2}', '{2,}', '*?')
const { pattern } = fc.letrec<{ pattern: string; branch: string; part: string }>((tie) => ({
  pattern: fc.array(tie('branch'), { minLength: 1, maxLength: 2 }).map((branches) => branches.join('|')),
  branch: fc.array(tie('part'), { maxLength: 3 }).map((parts) => parts.join('')),
  part: fc.oneof(
    { depthSize: 'small' },
    fc.tuple(atom, quantifier).map((both) => both.join('')),
    fc.tuple(tie('pattern'), quantifier).map(([inner, q]) => `(?:${inner})${q}`),
  ),
}))
const text = fc.string({ unit: fc.constantFrom('a', 'b', 'c', '1', 'é', '🙂', '"', '\\', '\n', ' '), maxLength: 6 })

describe('patternGrammar', () => {
  it('takes the same texts as the regular expressions of JavaScript', () => {
    fc.assert(
      fc.property(pattern, fc.boolean(), text, (inner, anchored, value) => {
        const whole = anchored ? `^(?:${inner})$` : inner
        expect(follows(whole, value)).toBe(new RegExp(whole, 'u').test(value))
      }),
      { numRuns: 300 },
    )
  })

  it.each([
    ['(?=a)', 'look-around'],
    ['(?<!a)b', 'look-around'],
    ['(a)\\1', '"\\1"'],
    ['\\bword', '"\\b"'],
    ['\\p{L}', '"\\p"'],
    ['a^b', '"^" that is not at the beginning'],
    ['(a$)', '"$" inside a group'],
    ['(a', '"$" inside a group, or a group that is not closed'],
    ['a)', '")" at 1'],
    ['*a', '"*" without anything to repeat'],
    ['[b-a]', 'a range in the wrong order'],
    ['[a', 'an end in the middle'],
    ['a{3,2}', 'in the wrong order'],
    ['a{9999}', 'more than 5000'],
    ['\\ud83d', 'an escape that is no character'],
    ['x'.repeat(2001), 'more than 2000 characters'],
  ])('refuses %j by name', (bad, message) => {
    expect(() => patternGrammar(bad, (body) => body)).toThrow(UnsupportedPattern)
    expect(() => patternGrammar(bad, (body) => body)).toThrow(message)
  })

  it('never fails in any other way, whatever the pattern', () => {
    const characters = fc.constantFrom(...'ab()[]{}|*+?^$\\.-,019:=!<>dwsuxk🙂')
    fc.assert(
      fc.property(fc.string({ unit: characters, maxLength: 14 }), (anything) => {
        try {
          patternGrammar(anything, (body) => body)
        } catch (error) {
          expect(error).toBeInstanceOf(UnsupportedPattern)
        }
      }),
      { numRuns: 1000 },
    )
  })
})
