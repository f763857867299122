import type { TokenizerJson } from './tokenizer-files.js'
import { hasPart, partsOf, tokenNames } from './token-bytes.js'

/**
 * The pattern that cuts a text into words which can be tokenized one by one with the same result as the whole text, or
 * null where that is not proven.
 *
 * - SentencePiece-like BPE over the whole text: a merge makes a token of the vocabulary, so where no token has a "▁" after
 *   another character nothing merges across the place before a space (or a "▁" written in the text, which is the same to
 *   it) that follows another character. The same for line ends,
 *   where no token but the line end's own contains one.
 * - Byte-level BPE with one of the known splitting expressions: all of them begin a new piece at a space between two
 *   letters, whatever stands around it.
 */
export function wordPatternOf(json: TokenizerJson): RegExp | null {
  if (
    json.added_tokens.some((token) => !token.special && (/[ \n]/.test(token.content) || token.lstrip || token.rstrip))
  ) {
    return null
  }
  if (json.model.type !== 'BPE') return null
  if (hasPart(json.pre_tokenizer, 'ByteLevel')) return byteLevelPattern(json)
  return sentencePiecePattern(json)
}

/** True where the tokenizer puts a "▁" before every section of text (Llama's first, "legacy" conversion). */
export function prependsToEverySection(json: TokenizerJson): boolean {
  return hasPart(json.normalizer, 'Prepend')
}

function sentencePiecePattern(json: TokenizerJson): RegExp | null {
  const known = ['Sequence', 'Prepend', 'Replace', 'Metaspace']
  const parts = [...partsOf(json.normalizer), ...partsOf(json.pre_tokenizer)]
  if (!parts.every((part) => known.includes(String(part.type)))) return null
  if (!parts.filter((part) => part.type === 'Replace').every(replacesSpace)) return null
  let lineEndIsAlone = !prependsToEverySection(json)
  for (const name of tokenNames(json).values()) {
    if (/[^▁]▁/.test(name)) return null
    if (name.length > 1 && name.includes('\n')) lineEndIsAlone = false
  }
  // Otherwise spaces at the end stay with the last word: a prefix is put before words, and there is none to put it before.
  return lineEndIsAlone ? /[ ▁]*[^ ▁\n]+|[ ▁]+|\n/g : /[ ▁]*[^ ▁]+(?:[ ▁]+$)?|[ ▁]+$/g
}

function replacesSpace(part: Record<string, unknown>): boolean {
  return part.content === '▁' && (part.pattern as { String?: unknown } | undefined)?.String === ' '
}

/** The expressions of Llama 3, Qwen 2 and Tekken; GPT-2's is built into ByteLevel. */
const LETTER_RUNS = [
  "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
  "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
  '[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]*[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]+|[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]+[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]*|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+',
]

function byteLevelPattern(json: TokenizerJson): RegExp | null {
  if (json.normalizer !== undefined && json.normalizer.type !== 'NFC') return null
  const parts = partsOf(json.pre_tokenizer).filter((part) => part.type !== 'Sequence')
  const splits = parts.filter((part) => part.type === 'Split')
  const known = splits.every((part) =>
    LETTER_RUNS.includes((part.pattern as { Regex?: string } | undefined)?.Regex ?? ''),
  )
  const byteLevel = parts.filter((part) => part.type === 'ByteLevel')
  const others = parts.length - splits.length - byteLevel.length
  const digitsOnly = parts.filter((part) => part.type === 'Digits').length === others
  const cuts = splits.length > 0 || byteLevel.some((part) => part.use_regex !== false)
  if (!known || !digitsOnly || !cuts || byteLevel.some((part) => part.add_prefix_space === true)) return null
  // A lazy run up to a space that has a letter on both sides.
  return /[^]+?(?:(?<=\p{L})(?= \p{L})|$)/gu
}
