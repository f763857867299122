import { readFileSync } from 'node:fs'
import { tokenBytesFromJson } from '@mirastral/infer'
import type { Decoding, LanguageModel, PromptTokenizer, TokenBytes } from '@mirastral/infer'

const fixture = (name: string): unknown =>
  JSON.parse(readFileSync(new URL(`../../../../fixtures/infer/${name}`, import.meta.url), 'utf8'))

export const loadTokenBytes = (name: 'metaspace' | 'bytelevel'): TokenBytes =>
  tokenBytesFromJson(fixture(`tokenizer-${name}.json`))

/** The longest token at each place: not a real tokenizer's choice, but one that decodes to the same text. */
export function tokensOf(tokens: TokenBytes, text: string): number[] {
  const bytes = Buffer.from(text)
  const ids: number[] = []
  for (let at = 0; at < bytes.length;) {
    let best = -1
    let length = 0
    tokens.bytes.forEach((candidate, id) => {
      if (candidate === undefined || candidate.length <= length) return
      if (bytes.subarray(at, at + candidate.length).equals(candidate)) [best, length] = [id, candidate.length]
    })
    if (best === -1) throw new Error(`no token for byte ${bytes[at]}`)
    ids.push(best)
    at += length
  }
  return ids
}

export interface ScriptedModel extends LanguageModel {
  /** Decodings that are open now. */
  readonly open: number
  readonly prompts: number[][]
}

/** A model that wants to write the given tokens, then the end token, whatever was chosen before. */
export function scriptedModel(script: readonly number[], options: { vocabSize: number; end: number }): ScriptedModel {
  const { vocabSize, end } = options
  let open = 0
  const prompts: number[][] = []
  return {
    modelId: 'scripted',
    vocabSize,
    contextLength: 400,
    get open() {
      return open
    },
    prompts,
    begin(promptIds): Promise<Decoding> {
      prompts.push([...promptIds])
      open++
      let position = 0
      const logits = (): Float32Array => {
        const row = new Float32Array(vocabSize).fill(-4)
        row[script[position] ?? end] = 4
        return row
      }
      return Promise.resolve({
        logits: logits(),
        append: () => {
          position++
          return Promise.resolve(logits())
        },
        close: () => {
          open--
        },
      })
    },
  }
}

/** Renders turns as `role:content|` in UTF-8 bytes; nothing depends on the prompt's form. */
export function plainTokenizer(tokens: TokenBytes): PromptTokenizer {
  const encode = (text: string): Int32Array => Int32Array.from(tokensOf(tokens, text))
  return {
    template: { name: 'plain', textBesideToolCalls: false },
    eosTokenId: tokens.specialTokens.get('</s>') ?? -1,
    encodePrompt: (turns, { tools = [] } = {}) =>
      encode(`${tools.map((t) => t.name).join()}#${turns.map((t) => `${t.role}:${t.content}`).join('|')}`),
    encodeText: encode,
  }
}
