import { sentencePieceForm } from './sentence-piece.js'
import type { SentencePieceForm } from './sentence-piece.js'
import { hasPart, partsOf, tokenNames } from './token-bytes.js'
import type { TokenizerJson } from './tokenizer-files.js'

const SPACE = 0x20
const LINE_END = 0x0a
/** "▁", which is the same to SentencePiece as a space. */
const LOWER_BLOCK = 0x2581
const ASCII = 128

/** What to do between two characters. */
const JOINED = 0
const CUT = 1
const CUT_BEFORE_LETTER = 2
const CUT_UNLESS_BLANK = 3

/**
 * Where a text can be cut into words that are tokenized one by one with the same result as the whole text.
 *
 * - SentencePiece-like BPE over the whole text: every merge makes a token of the vocabulary, so nothing merges across two
 *   characters that stand side by side in no token.
 * - Byte-level BPE with one of the known splitting expressions: all of them begin a new piece at a space between two
 *   letters, whatever stands around it.
 */
export class WordCutter {
  /** By 128 times the first plus the second of two ASCII characters. */
  private readonly pairs: Uint8Array
  /** Before a space, where the character before it is not ASCII. */
  private readonly space: number
  private readonly everySpace: boolean

  private constructor(pairs: Uint8Array, space: number, everySpace: boolean) {
    this.pairs = pairs
    this.space = space
    this.everySpace = everySpace
  }

  /** Null where no cut is proven to be harmless. */
  static of(json: TokenizerJson): WordCutter | null {
    const ordinary = json.added_tokens.filter((token) => !token.special)
    if (ordinary.some((token) => !/^\p{L}+$/u.test(token.content) || token.lstrip || token.rstrip)) return null
    if (beginsAtSpaces(json)) return new WordCutter(spacePairs(CUT_BEFORE_LETTER, true), CUT_BEFORE_LETTER, false)
    const form = sentencePieceForm(json)
    return form === null || ordinary.length > 0 ? null : WordCutter.ofSentencePiece(json, form)
  }

  private static ofSentencePiece(json: TokenizerJson, form: SentencePieceForm): WordCutter | null {
    const { prefix, splitsSpaces } = form
    // Where pieces get a prefix, only those that begin with a space may be cut off, which then is the prefix.
    const isPrefixed = prefix === 'always' || prefix === 'prepend'
    const space = isPrefixed && !splitsSpaces ? CUT_UNLESS_BLANK : CUT
    const pairs = spacePairs(space, false)
    if (splitsSpaces) for (const [code] of pairs.subarray(0, ASCII).entries()) pairs[code * ASCII + SPACE] = CUT
    const inTokens = asciiPairs(json)
    if (inTokens === null && !splitsSpaces) return null
    for (let i = 0; inTokens !== null && !isPrefixed && i < pairs.length; i++) {
      if (inTokens[i] === 0 && isWordEdge(i >> 7, i & 127)) pairs[i] = CUT
    }
    return new WordCutter(pairs, space, splitsSpaces)
  }

  /** Whether a cut is made before the UTF-16 unit at an index, 1 or later, of the first `length` units. */
  cutsBefore(units: Uint16Array, length: number, index: number): boolean {
    const code = units[index]
    const before = units[index - 1]
    if (code < ASCII && before < ASCII) {
      const rule = this.pairs[before * ASCII + code]
      return rule === CUT || (rule !== JOINED && this.holds(rule, units, length, index))
    }
    if (!isSpace(code) || (isSpace(before) && !this.everySpace)) return false
    return this.space === CUT || this.holds(this.space, units, length, index)
  }

  private holds(rule: number, units: Uint16Array, length: number, index: number): boolean {
    if (rule === CUT_UNLESS_BLANK) return !isBlankFrom(units, length, index)
    const isBetween = index + 1 < length && isLetter(units[index - 1]) && isLetter(units[index + 1])
    return units[index] === SPACE && isBetween
  }
}

/** A table with one rule for a space after a character that is none, or only after a letter. */
function spacePairs(rule: number, afterLetters: boolean): Uint8Array {
  const pairs = new Uint8Array(ASCII * ASCII)
  for (let before = 0; before < ASCII; before++) {
    const applies = afterLetters ? isLetter(before) : before !== SPACE
    if (applies) pairs[before * ASCII + SPACE] = rule
  }
  return pairs
}

/**
 * Which pairs of ASCII characters stand side by side in any token, as 128 x 128 flags; null where a token has a space after
 * another character, for then nothing is known about words.
 */
function asciiPairs(json: TokenizerJson): Uint8Array | null {
  const pairs = new Uint8Array(ASCII * ASCII)
  for (const name of tokenNames(json).values()) {
    if (/[^▁]▁/.test(name)) return null
    for (let i = 1; i < name.length; i++) {
      const [before, code] = [name.charCodeAt(i - 1), name.charCodeAt(i)]
      if (before < ASCII && code < ASCII) pairs[before * ASCII + code] = 1
    }
  }
  return pairs
}

/** Cuts inside words would make more pieces to look up, and not more pieces that are known. */
function isWordEdge(before: number, code: number): boolean {
  if (before === SPACE || code === SPACE) return false
  return isWordCharacter(before) !== isWordCharacter(code) || before === LINE_END || code === LINE_END
}

function isWordCharacter(code: number): boolean {
  return (code >= 0x61 && code <= 0x7a) || (code >= 0x41 && code <= 0x5a) || (code >= 0x30 && code <= 0x39)
}

function isSpace(code: number): boolean {
  return code === SPACE || code === LOWER_BLOCK
}

function isBlankFrom(units: Uint16Array, length: number, index: number): boolean {
  for (let i = index; i < length; i++) if (!isSpace(units[i])) return false
  return true
}

/** The expressions of Llama 3, Qwen 2 and Tekken; GPT-2's is built into ByteLevel. */
const LETTER_RUNS = [
  "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
  "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
  '[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]*[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]+|[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]+[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]*|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+',
]

/** True for byte-level BPE that is known to begin a piece at a space between two letters. */
function beginsAtSpaces(json: TokenizerJson): boolean {
  if (json.model.type !== 'BPE' || !hasPart(json.pre_tokenizer, 'ByteLevel')) return false
  if (json.normalizer !== undefined && json.normalizer.type !== 'NFC') return false
  const parts = partsOf(json.pre_tokenizer).filter((part) => part.type !== 'Sequence')
  const splits = parts.filter((part) => part.type === 'Split')
  const byteLevel = parts.filter((part) => part.type === 'ByteLevel')
  const digits = parts.filter((part) => part.type === 'Digits')
  const regexes = splits.map((part) => (part.pattern as { Regex?: string } | undefined)?.Regex ?? '')
  return (
    parts.length === splits.length + byteLevel.length + digits.length &&
    regexes.every((regex) => LETTER_RUNS.includes(regex)) &&
    (splits.length > 0 || byteLevel.some((part) => part.use_regex !== false)) &&
    byteLevel.every((part) => part.add_prefix_space !== true)
  )
}

/** Letters of the basic plane; half of a surrogate pair is none, and nothing is cut there. */
function isLetter(code: number): boolean {
  const lower = code | 0x20
  if (lower >= 0x61 && lower <= 0x7a) return true
  return code >= ASCII && /\p{L}/u.test(String.fromCharCode(code))
}
