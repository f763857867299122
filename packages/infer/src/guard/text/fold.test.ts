import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { foldText } from './fold.js'

const emoji = new Map([['🔪', 'knife']])

describe('foldText', () => {
  it.each([
    ['ＫＩＬＬ', 'kill'],
    ['𝓴𝓲𝓵𝓵', 'kill'],
    ['kïll', 'kill'],
    ['k\u200bi\u00adll', 'kill'],
    ['kіll', 'kill'],
    ['“I’m”', '"i\'m"'],
    ['a\r\nb', 'a\n\nb'],
    ['my 🔪', 'my  knife '],
  ])('reads %j as %j', (written, read) => {
    expect(foldText(written, emoji).text).toBe(read)
  })

  it('leaves words of other scripts as they are', () => {
    expect(foldText('мир').text).toBe('мир')
  })

  it('knows for every character where it came from, in order, whatever the text is', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary', maxLength: 60 }), (text) => {
        const { text: folded, origin } = foldText(text, emoji)
        expect(origin).toHaveLength(folded.length + 1)
        expect(origin.at(-1)).toBe(text.length)
        origin.forEach((at, i) => expect(at).toBeGreaterThanOrEqual(origin[i - 1] ?? 0))
      }),
    )
  })
})
