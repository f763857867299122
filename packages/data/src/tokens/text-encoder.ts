import { randomUUID } from 'node:crypto'
import { Bpe } from './bpe.js'
import { sentencePieceForm, withPrefix } from './sentence-piece.js'
import { tokenBytesOf, tokenNames } from './token-bytes.js'
import type { TokenBytes } from './token-bytes.js'
import { specialTokensOf } from './tokenizer-files.js'
import type { AddedToken, TokenizerFiles } from './tokenizer-files.js'
import { WordCutter } from './word-cutter.js'
import { HASH_START, MAX_WORD_LENGTH, WordTable, hashNext } from './word-table.js'

/** Sections of text kept with their tokens: a conversation is tokenized again where it is shortened. */
const MAX_SECTIONS = 64

/**
 * Tokenizes a piece of text. `isStart` says that it begins a section, that is the text after a special token, and `isFirst`
 * that nothing at all stands before it.
 */
type EncodePiece = (piece: string, isStart: boolean, isFirst: boolean) => readonly number[]

/**
 * Text to token ids. Tokenizers of SentencePiece's kind (Mistral, Llama 2) are read directly, all others go through
 * @huggingface/transformers. In both ways words are looked up before they are tokenized, where the vocabulary proves that
 * they cannot influence each other, and special tokens written in the text are plain text: the template's own are placed
 * by id.
 */
export class TextEncoder {
  /** The bytes of every token, for aligning tokens with text. */
  readonly bytes: TokenBytes
  /** The highest token id plus one. */
  readonly vocabSize: number
  /** The added tokens that only the template may write. */
  readonly specialTokens: readonly AddedToken[]
  readonly specialIds: ReadonlySet<number>
  /** Whether a space is put before the text after a special token. */
  readonly startsArePrefixed: boolean
  private readonly specialsByText: ReadonlyMap<string, AddedToken>
  private readonly encodePiece: EncodePiece
  private readonly cutter: WordCutter | null
  private readonly nfc: boolean
  private readonly words = new WordTable()
  private units = new Uint16Array(1 << 12)
  private out = new Int32Array((1 << 12) * 3 + 1)
  private readonly sections = new Map<string, Int32Array>()

  private constructor(files: TokenizerFiles, encodePiece: EncodePiece) {
    this.encodePiece = encodePiece
    this.bytes = tokenBytesOf(files.json)
    this.vocabSize = vocabSizeOf(files)
    this.specialTokens = specialTokensOf(files)
    this.specialsByText = new Map(this.specialTokens.map((token) => [token.content, token]))
    this.specialIds = new Set(this.specialTokens.map((token) => token.id))
    this.cutter = WordCutter.of(files.json)
    const prefix = sentencePieceForm(files.json)?.prefix
    this.startsArePrefixed = prefix === 'always' || prefix === 'prepend'
    this.nfc = files.json.normalizer?.type === 'NFC'
  }

  static async create(files: TokenizerFiles): Promise<TextEncoder> {
    return new TextEncoder(files, sentencePieces(files) ?? (await transformersPieces(files)))
  }

  /** True where words are looked up one by one. */
  get cachesWords(): boolean {
    return this.cutter !== null
  }

  /** The text as the tokenizer reads it. */
  normalize(text: string): string {
    return this.nfc ? text.normalize('NFC') : text
  }

  /** The special token that is written in this way. */
  special(content: string): AddedToken | undefined {
    return this.specialsByText.get(content)
  }

  /** The tokens of a section. `isFirst` says that nothing stands before it in the sequence. The array must not be changed. */
  encode(text: string, isFirst: boolean): Int32Array {
    if (isFirst) return this.encodeSection(text, true)
    const known = this.sections.get(text)
    if (known !== undefined) return known
    const ids = this.encodeSection(text, false)
    if (this.sections.size === MAX_SECTIONS) this.sections.clear()
    this.sections.set(text, ids)
    return ids
  }

  /** The same without cutting the text or looking anything up. */
  encodeWhole(text: string, isFirst: boolean): Int32Array {
    return Int32Array.from(text === '' ? [] : this.encodePiece(text, true, isFirst))
  }

  private encodeSection(text: string, isFirst: boolean): Int32Array {
    const { cutter } = this
    const { length } = text
    if (cutter === null || length === 0) return this.encodeWhole(text, isFirst)
    const units = this.unitsOf(text)
    let count = 0
    let start = 0
    let hash = HASH_START
    for (let i = 0; i < length; i++) {
      if (i > 0 && cutter.cutsBefore(units, length, i)) {
        count = this.encodeWord(text, start, i, hash, isFirst, count)
        start = i
        hash = HASH_START
      }
      hash = hashNext(hash, units[i])
    }
    count = this.encodeWord(text, start, length, hash, isFirst, count)
    return this.out.slice(0, count)
  }

  /** Writes the tokens of text[start, end) to `out` from `at` on, and returns the position after them. */
  private encodeWord(text: string, start: number, end: number, hash: number, isFirst: boolean, at: number): number {
    // The word that begins a section may get a prefix that the same word elsewhere does not.
    const isOwn = start === 0 && (isFirst || this.startsArePrefixed)
    const after = isOwn ? -1 : this.words.copyIds(this.units, start, end, hash, this.out, at)
    if (after >= 0) return after
    const word = text.slice(start, end)
    const found = this.encodePiece(word, start === 0, isFirst)
    this.out.set(found, at)
    if (!isOwn && word.length <= MAX_WORD_LENGTH) this.words.add(word, hash, found)
    return at + found.length
  }

  /**
   * The text in an array, which is read several times as fast as a string that was put together of others. Makes room for
   * its tokens too: at most one per byte of UTF-8, and one for a prefix.
   */
  private unitsOf(text: string): Uint16Array {
    if (text.length > this.units.length) {
      this.units = new Uint16Array(text.length * 2)
      this.out = new Int32Array(this.units.length * 3 + 1)
    }
    Buffer.from(this.units.buffer).write(text, 'utf16le')
    return this.units
  }
}

/** Null for tokenizers of another kind. */
function sentencePieces(files: TokenizerFiles): EncodePiece | null {
  const form = sentencePieceForm(files.json)
  const special = new Set(specialTokensOf(files).map((token) => token.id))
  if (form === null || files.json.added_tokens.some((token) => !special.has(token.id))) return null
  const bpe = new Bpe(files.json)
  return (piece, isStart, isFirst) => {
    const written = withPrefix(piece, form.prefix, isStart, isFirst)
    return form.splitsSpaces ? written.split(/(?=▁)/).flatMap((part) => bpe.encode(part)) : bpe.encode(written)
  }
}

/**
 * Through the library, which is made without the special tokens, so that it does not find them in texts. A sentinel that
 * no text contains stands for what is before a section.
 */
async function transformersPieces(files: TokenizerFiles): Promise<EncodePiece> {
  const { PreTrainedTokenizer } = await import('@huggingface/transformers')
  const sentinel = `<|${randomUUID()}|>`
  const mark = { id: vocabSizeOf(files), content: sentinel, special: true, normalized: false }
  const special = new Set(specialTokensOf(files).map((token) => token.id))
  const ordinary = files.json.added_tokens.filter((token) => !special.has(token.id))
  // AutoTokenizer would ask the network for what a folder lacks; the parsed files are given to the class instead.
  const tokenizer = new PreTrainedTokenizer({ ...files.rawJson, added_tokens: [...ordinary, mark] }, files.config)
  return (piece, isStart, isFirst) => {
    const ids = tokenizer.encode(isFirst && isStart ? piece : sentinel + piece, { add_special_tokens: false })
    return isFirst && isStart ? ids : ids.slice(1)
  }
}

function vocabSizeOf(files: TokenizerFiles): number {
  let highest = -1
  for (const id of tokenNames(files.json).keys()) highest = Math.max(highest, id)
  return highest + 1
}
