import { randomUUID } from 'node:crypto'
import type { PreTrainedTokenizer } from '@huggingface/transformers'
import { specialTokensOf } from './tokenizer-files.js'
import type { AddedToken, TokenizerFiles } from './tokenizer-files.js'
import { tokenBytesOf, tokenNames } from './token-bytes.js'
import type { TokenBytes } from './token-bytes.js'
import { prependsToEverySection, wordPatternOf } from './word-boundaries.js'

/** Words kept with their tokens: above it the cache starts anew. About 100 bytes each. */
const MAX_CACHED_WORDS = 200_000
/** Longer words are rare, and most often unique. UTF-16 units. */
const MAX_CACHED_WORD_LENGTH = 64

/**
 * Text to token ids, through @huggingface/transformers' tokenizer with two differences: special tokens written in the text
 * are plain text (the template's own are placed by id), and words are looked up before they are tokenized, where the
 * vocabulary proves that words cannot influence each other.
 */
export class TextEncoder {
  /** The bytes of every token, for aligning tokens with text. */
  readonly bytes: TokenBytes
  /** The highest token id plus one. */
  readonly vocabSize: number
  /** The added tokens that only the template may write. */
  readonly specialTokens: readonly AddedToken[]
  readonly specialIds: ReadonlySet<number>
  private readonly tokenizer: PreTrainedTokenizer
  /** Stands before text that does not begin the sequence; random, so that no text contains it. */
  private readonly sentinel: string
  private readonly wordPattern: RegExp | null
  private readonly legacy: boolean
  private readonly nfc: boolean
  private cache = new Map<string, readonly number[]>()

  private constructor(tokenizer: PreTrainedTokenizer, sentinel: string, files: TokenizerFiles) {
    this.tokenizer = tokenizer
    this.sentinel = sentinel
    this.bytes = tokenBytesOf(files.json)
    this.vocabSize = vocabSizeOf(files)
    this.specialTokens = specialTokensOf(files)
    this.specialIds = new Set(this.specialTokens.map((token) => token.id))
    this.wordPattern = wordPatternOf(files.json)
    this.legacy = prependsToEverySection(files.json)
    this.nfc = files.json.normalizer?.type === 'NFC'
  }

  static async create(files: TokenizerFiles): Promise<TextEncoder> {
    const { PreTrainedTokenizer } = await import('@huggingface/transformers')
    const sentinel = `<|${randomUUID()}|>`
    const mark = { id: vocabSizeOf(files), content: sentinel, special: true, normalized: false }
    const special = new Set(specialTokensOf(files).map((token) => token.id))
    const ordinary = files.json.added_tokens.filter((token) => !special.has(token.id))
    // AutoTokenizer would ask the network for what a folder lacks; the parsed files are given to the class instead.
    const tokenizer = new PreTrainedTokenizer({ ...files.rawJson, added_tokens: [...ordinary, mark] }, files.config)
    return new TextEncoder(tokenizer, sentinel, files)
  }

  /** True where words are looked up one by one. */
  get cachesWords(): boolean {
    return this.wordPattern !== null
  }

  /** The text as the tokenizer reads it. */
  normalize(text: string): string {
    return this.nfc ? text.normalize('NFC') : text
  }

  /** The tokens of a text between special tokens. `first` says that nothing stands before it in the sequence. */
  encode(text: string, first: boolean): number[] {
    if (this.wordPattern === null) return this.encodeUncached(text, first)
    const ids: number[] = []
    let begins = true
    for (const [word] of text.matchAll(this.wordPattern)) {
      const tokens = begins && (first || this.legacy) ? this.encodeUncached(word, first) : this.lookUp(word)
      for (const id of tokens) ids.push(id)
      begins = false
    }
    return ids
  }

  private lookUp(word: string): readonly number[] {
    const known = this.cache.get(word)
    if (known !== undefined) return known
    // A legacy tokenizer puts the "▁" back that stands for the word's space.
    const ids = this.encodeUncached(this.legacy ? word.slice(1) : word, false)
    if (word.length > MAX_CACHED_WORD_LENGTH) return ids
    if (this.cache.size >= MAX_CACHED_WORDS) this.cache = new Map()
    // Copied: a slice would keep its whole conversation in memory.
    this.cache.set(Buffer.from(word, 'utf16le').toString('utf16le'), ids)
    return ids
  }

  /** The same without looking anything up. */
  encodeUncached(text: string, first: boolean): number[] {
    const ids = this.tokenizer.encode(first ? text : this.sentinel + text, { add_special_tokens: false })
    return first ? ids : ids.slice(1)
  }
}

function vocabSizeOf(files: TokenizerFiles): number {
  let highest = -1
  for (const id of tokenNames(files.json).keys()) highest = Math.max(highest, id)
  return highest + 1
}
