import { readFileSync } from 'node:fs'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { Detokenizer, tokenText } from './detokenize.js'
import { InferError } from './errors.js'
import { tokenBytesFromJson } from './token-bytes.js'
import type { TokenBytes } from './token-bytes.js'

const fixture = (name: string): unknown =>
  JSON.parse(readFileSync(new URL(`../../../fixtures/infer/${name}`, import.meta.url), 'utf8'))

const load = (name: string): TokenBytes => tokenBytesFromJson(fixture(`tokenizer-${name}.json`))

function pieces(tokens: TokenBytes, ids: number[], continuation = false): string[] {
  const detokenizer = new Detokenizer(tokens, { continuation })
  return [...ids.map((id) => detokenizer.push(id)), detokenizer.flush()]
}

describe.each(['metaspace', 'bytelevel'])('with a %s tokenizer', (name) => {
  const tokens = load(name)
  const cases = fixture(`decoded-${name}.json`) as { ids: number[]; text: string }[]

  it('the pieces put together are what Hugging Face tokenizers decode', () => {
    for (const { ids, text } of cases) expect(pieces(tokens, ids).join('')).toBe(text)
  })

  it('no piece of a well-formed text ends or begins in half a character', () => {
    for (const { ids } of cases) {
      for (const piece of pieces(tokens, ids)) {
        expect(piece).not.toContain('\ufffd')
        expect(piece).not.toMatch(/\p{Surrogate}/u)
      }
    }
  })

  it('never throws, whatever the ids, and loses no whole character before a malformed one', () => {
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 0, max: tokens.bytes.length + 3 }), { maxLength: 40 }), (ids) => {
        const all = Buffer.concat(ids.map((id) => tokens.bytes[id] ?? new Uint8Array()))
        const whole = new TextDecoder('utf-8', { ignoreBOM: true }).decode(all)
        expect(pieces(tokens, ids, true).join('')).toBe(whole)
      }),
    )
  })

  it('shows special tokens as nothing', () => {
    const ids = [...tokens.specialTokens.values()]
    expect(ids.length).toBe(8)
    expect(pieces(tokens, ids).join('')).toBe('')
  })
})

describe('a Metaspace tokenizer', () => {
  const tokens = load('metaspace')
  const idOf = (text: string): number =>
    tokens.bytes.findIndex((b) => b !== undefined && Buffer.from(b).toString('latin1') === text)

  it('keeps the space of a continued text and drops it at the start of an answer', () => {
    const id = tokens.bytes.findIndex((b) => b?.[0] === 0x20 && b.length > 2)
    const text = tokenText(tokens, id)
    expect(pieces(tokens, [id, id]).join('')).toBe(text.slice(1) + text)
    expect(pieces(tokens, [id, id], true).join('')).toBe(text + text)
  })

  it('releases a character with its last byte, and an unfinished one as U+FFFD at the end', () => {
    const [a, b, c] = ['\xe6', '\x97', '\xa5'].map(idOf)
    expect(pieces(tokens, [a, b, c])).toEqual(['', '', '日', ''])
    expect(pieces(tokens, [a, b])).toEqual(['', '', '\ufffd'])
    expect(tokenText(tokens, a)).toBe('\ufffd')
  })
})

describe('tokenBytesFromJson', () => {
  it('reads Unigram vocabularies and old Metaspace decoders', () => {
    const tokens = tokenBytesFromJson({
      model: { type: 'Unigram', vocab: [['<unk>', 0], ['▁he', -1], ['llo', -2]] }, // prettier-ignore
      added_tokens: [{ id: 0, content: '<unk>', special: true }],
      decoder: { type: 'Metaspace', replacement: '▁', add_prefix_space: true },
    })
    expect(pieces(tokens, [1, 2, 0, 1]).join('')).toBe('hello he')
  })

  it('refuses a decoder that it does not understand', () => {
    const json = { model: { vocab: { a: 0 } }, decoder: { type: 'WordPiece', prefix: '##' } }
    expect(() => tokenBytesFromJson(json)).toThrow(InferError)
    expect(() => tokenBytesFromJson(json)).toThrow('got WordPiece')
    expect(() => tokenBytesFromJson({})).toThrow('needs a model.vocab and a decoder')
  })
})
