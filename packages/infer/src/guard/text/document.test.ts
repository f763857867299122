import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { loadLanguage } from '../language.js'
import { readDocument } from './document.js'

const { spelling, emoji } = loadLanguage('en')
const read = (text: string) => readDocument(text, spelling, emoji)
const words = (text: string): string[][] => read(text).sentences.map((s) => s.tokens.map((t) => t.word))

describe('readDocument', () => {
  it('divides a text into sentences of the words that were meant', () => {
    expect(words("I can't sleep. Why? I'm tired")).toEqual([
      ['i', 'can', 'not', 'sleep'],
      ['why'],
      ['i', 'am', 'tired'],
    ])
    expect(read('Why? Because.').sentences.map((s) => s.question)).toEqual([true, false])
  })

  it.each([
    ['k i l l', ['kill']],
    ['k.i.l.l', ['kill']],
    ['k1ll', ['kill']],
    ['su1c1d3', ['suicide']],
    ['killlll', ['kill']],
    ['suicde', ['suicide']],
    ['wanttodie', ['want', 'to', 'die']],
    ['Kill. My. Self.', ['kill', 'myself']],
  ])('reads %j as %j', (text, expected) => {
    expect(words(text)).toEqual([expected])
  })

  it('leaves ordinary words and numbers as they are', () => {
    expect(words('The skill of a good hostess is worth 1500 kites')).toEqual([
      ['the', 'skill', 'of', 'a', 'good', 'hostess', 'is', 'worth', '1500', 'kites'],
    ])
  })

  it('marks what is quoted and what follows a pause', () => {
    const [sentence] = read('Well, she said "let me go" and left').sentences
    expect(sentence?.tokens.filter((t) => t.quoted).map((t) => t.word)).toEqual(['let', 'me', 'go'])
    expect(sentence?.tokens.find((t) => t.word === 'she')?.afterPause).toBe(true)
  })

  it('gives every word a place inside the original text, in order', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'grapheme', maxLength: 80 }), (text) => {
        let before = 0
        for (const { span } of read(text).sentences.flatMap((s) => s.tokens)) {
          expect(span.start).toBeGreaterThanOrEqual(before)
          expect(span.end).toBeGreaterThan(span.start)
          expect(span.end).toBeLessThanOrEqual(text.length)
          before = span.start
        }
      }),
    )
  })
})
