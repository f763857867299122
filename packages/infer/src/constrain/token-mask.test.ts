import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { z } from 'zod'
import { Detokenizer } from '../detokenize.js'
import { seededRandom } from '../random.js'
import { tokenBytesFromJson } from '../token-bytes.js'
import type { TokenBytes } from '../token-bytes.js'
import { Automaton } from './automaton.js'
import { jsonSchemaGrammar } from './json-schema.js'
import { compileGrammar } from './program.js'
import { TokenConstraint, buildTokenTrie } from './token-mask.js'
import type { TokenMask } from './token-mask.js'

const schemas = [
  z.object({ mood: z.enum(['calm', 'tense']), score: z.int().min(0).max(10), notes: z.array(z.string()).max(3) }),
  z.object({ name: z.string().max(6), next: z.union([z.null(), z.number()]).optional(), ok: z.boolean() }),
  z.array(z.object({ day: z.iso.date(), tag: z.string().regex(/^[a-zé🙂]+$/u) })).min(1),
  z.discriminatedUnion('kind', [
    z.object({ kind: z.literal('a'), v: z.number().gt(0) }),
    z.object({ kind: z.literal('b') }),
  ]),
]

const load = (name: string): TokenBytes =>
  tokenBytesFromJson(
    JSON.parse(readFileSync(new URL(`../../../../fixtures/infer/tokenizer-${name}.json`, import.meta.url), 'utf8')),
  )

const idsIn = (mask: Uint32Array): number[] =>
  Array.from({ length: mask.length * 32 }, (_, id) => id).filter((id) => (mask[id >> 5] >>> (id & 31)) & 1)

describe.each(['metaspace', 'bytelevel'])('with a %s tokenizer', (name) => {
  const tokens = load(name)
  const vocabSize = tokens.bytes.length
  const end = tokens.specialTokens.get('</s>') ?? -1
  const trie = buildTokenTrie(tokens, vocabSize)

  /** Random allowed tokens; after a while those that close, so that the walk ends. */
  function walk(mask: TokenMask, seed: number): string {
    const random = seededRandom(seed)
    const detokenizer = new Detokenizer(tokens, { continuation: true })
    let text = ''
    for (let step = 0; step < 3000; step++) {
      const ids = idsIn(mask.allowed())
      expect(ids.length).toBeGreaterThan(0)
      const closing = ids.filter(
        (id) => id === end || /^["\]},:1a-f]$/.test(Buffer.from(tokens.bytes[id] ?? []).toString()),
      )
      const among = step > 25 && closing.length > 0 ? closing : ids
      const id = among.includes(end) && step > 25 ? end : among[Math.floor(random.next() * among.length)]
      if (id === end) {
        expect(mask.complete).toBe(true)
        return text + detokenizer.flush()
      }
      mask.accept(id)
      text += detokenizer.push(id)
    }
    throw new Error(`no end after 3000 tokens: ${text.slice(0, 200)}`)
  }

  it.each(schemas.map((schema, i) => [i, schema] as const))(
    'whatever tokens are drawn, the answer is valid under schema %i',
    (_i, schema) => {
      const program = compileGrammar(jsonSchemaGrammar(z.toJSONSchema(schema)))
      const constraint = new TokenConstraint(program, trie, tokens, [end])
      for (let seed = 0; seed < 25; seed++) {
        const text = walk(constraint.begin(), seed)
        expect(schema.safeParse(JSON.parse(text)).error).toBeUndefined()
      }
    },
  )

  it('the mask holds exactly the tokens whose bytes the grammar can follow', () => {
    const program = compileGrammar(jsonSchemaGrammar(z.toJSONSchema(schemas[0])))
    const mask = new TokenConstraint(program, trie, tokens, [end]).begin()
    const automaton = new Automaton(program)
    let state: ReturnType<Automaton['step']> = automaton.start()
    for (const character of '{"mood": "calm", "score"') {
      const allowed = idsIn(mask.allowed())
      const expected = Array.from({ length: vocabSize }, (_, id) => id).filter((id) => {
        const bytes = tokens.bytes[id]
        let s = state
        for (const byte of bytes ?? []) s = s === null ? null : automaton.step(s, byte)
        return bytes !== undefined && bytes.length > 0 && s !== null
      })
      expect(allowed).toEqual(expected)
      const id = tokens.bytes.findIndex((b) => b !== undefined && Buffer.from(b).toString('latin1') === character)
      mask.accept(id)
      state = state === null ? null : automaton.step(state, character.charCodeAt(0))
    }
  })

  it('refuses to go on after a token that was not allowed', () => {
    const program = compileGrammar(jsonSchemaGrammar({ type: 'integer' }))
    const mask = new TokenConstraint(program, trie, tokens, [end]).begin()
    const brace = tokens.bytes.findIndex((b) => b?.length === 1 && b[0] === 0x7b)
    expect(() => mask.accept(brace)).toThrow(`internal: TokenConstraint: token ${brace} was not allowed here`)
  })
})

describe('a schema that is meant to be slow', () => {
  it('is refused by the amount of work, not by waiting', () => {
    const tokens = load('bytelevel')
    const pattern = `^(?:${Array.from({ length: 60 }, () => '.*a').join('')}){40}$`
    const program = compileGrammar(jsonSchemaGrammar({ type: 'string', pattern }))
    const constraint = new TokenConstraint(program, buildTokenTrie(tokens, tokens.bytes.length), tokens, [2])
    const mask = constraint.begin()
    const id = (character: string): number =>
      tokens.bytes.findIndex((b) => b?.length === 1 && b[0] === character.charCodeAt(0))
    expect(() => {
      mask.accept(id('"'))
      for (let i = 0; i < 5000; i++) {
        mask.allowed()
        mask.accept(id('a'))
      }
    }).toThrow('the schema is too ambiguous to be followed')
  })
})
