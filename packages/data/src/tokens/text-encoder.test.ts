import { PreTrainedTokenizer } from '@huggingface/transformers'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { fixture, golden } from '../../test/fixtures.js'
import { TextEncoder } from './text-encoder.js'
import { readTokenizerFiles } from './tokenizer-files.js'

interface Encoding {
  text: string
  first: number[]
  after: number[]
}

const goldens = golden<Record<string, Encoding[]>>('encodings')

async function encoderOf(name: string): Promise<TextEncoder> {
  return TextEncoder.create(await readTokenizerFiles(fixture(`tokenizers/${name}`)))
}

const piece = fc.oneof(
  fc.constantFrom(
    ' ',
    '  ',
    '\n',
    'a',
    'I',
    'slept',
    'badly',
    "'s",
    '12',
    '.',
    'é',
    '🙂',
    '▁',
    '\t',
    '-',
    '!?',
    'Größe',
    ': ',
  ),
  fc.string({ maxLength: 3 }),
  fc.string({ unit: 'grapheme', maxLength: 2 }),
)
const texts = fc.array(piece, { maxLength: 24 }).map((pieces) => pieces.join(''))

describe('TextEncoder', () => {
  for (const [name, rows] of Object.entries(goldens)) {
    it(`gives the ids of the Python tokenizers library for ${name}`, async () => {
      const encoder = await encoderOf(name)
      for (const { text, first, after } of rows) {
        expect({ text, ids: Array.from(encoder.encode(text, true)) }).toEqual({ text, ids: first })
        expect({ text, ids: Array.from(encoder.encode(text, false)) }).toEqual({ text, ids: after })
        // A second time from the cache of words.
        expect({ text, ids: Array.from(encoder.encode(text, false)) }).toEqual({ text, ids: after })
      }
    })

    it(`gives the ids of @huggingface/transformers for ${name} (property)`, async () => {
      const files = await readTokenizerFiles(fixture(`tokenizers/${name}`))
      const encoder = await TextEncoder.create(files)
      const library = new PreTrainedTokenizer(files.rawJson, files.config)
      const before = files.config.eos_token ?? ''
      const encode = (text: string): number[] => library.encode(text, { add_special_tokens: false })
      fc.assert(
        fc.property(texts, (text) => {
          fc.pre(!files.json.added_tokens.some(({ content }) => text.includes(content)))
          expect(Array.from(encoder.encode(text, true))).toEqual(encode(text))
          expect(Array.from(encoder.encode(text, false))).toEqual(encode(before + text).slice(1))
        }),
        { numRuns: 300, seed: 10 },
      )
    })

    it(`cuts ${name}'s texts into words without changing a token`, async () => {
      const encoder = await encoderOf(name)
      expect(encoder.cachesWords).toBe(true)
      fc.assert(
        fc.property(texts, fc.boolean(), (text, first) => {
          expect(encoder.encode(text, first)).toEqual(encoder.encodeWhole(text, first))
        }),
        { numRuns: 300, seed: 1 },
      )
    })
  }

  it('reads special tokens in a text as plain text', async () => {
    const encoder = await encoderOf('mistral-v3')
    const special = new Set(encoder.specialTokens.map((token) => token.id))
    const ids = Array.from(encoder.encode('Say [INST] and </s> and [/TOOL_RESULTS] <s>', false))
    expect(ids.filter((id) => special.has(id))).toEqual([])
    expect(Buffer.concat(ids.map((id) => encoder.bytes.of(id))).toString()).toBe(
      'Say [INST] and </s> and [/TOOL_RESULTS] <s>',
    )
  })
})
