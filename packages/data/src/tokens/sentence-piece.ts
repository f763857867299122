import { partsOf } from './token-bytes.js'
import type { TokenizerJson } from './tokenizer-files.js'

/** How a tokenizer of SentencePiece's kind prepares text for BPE. */
export interface SentencePieceForm {
  /**
   * When a "▁" is put before a section of text: before the sequence's first section, or before each, where it does not begin
   * with a space (Metaspace `first` and `always`); before each in any case (`prepend`, Llama's first conversion); never.
   */
  prefix: 'never' | 'first' | 'always' | 'prepend'
  /** Whether every space begins a piece of its own, instead of a run of spaces (Metaspace `split`). */
  splitsSpaces: boolean
}

/** Null for a tokenizer of another kind, or one with parts that are not known here. */
export function sentencePieceForm({ normalizer, pre_tokenizer, model }: TokenizerJson): SentencePieceForm | null {
  if (model.type !== 'BPE' || Array.isArray(model.vocab) || hasSuffixes(model)) return null
  const normalizers = partsOf(normalizer).filter((part) => part.type !== 'Sequence')
  if (pre_tokenizer === undefined) {
    const [first, second] = normalizers
    if (normalizers.length === 1 && replacesSpace(first)) return { prefix: 'never', splitsSpaces: false }
    const isLegacy =
      normalizers.length === 2 && first.type === 'Prepend' && first.prepend === '▁' && replacesSpace(second)
    return isLegacy ? { prefix: 'prepend', splitsSpaces: false } : null
  }
  if (pre_tokenizer.type !== 'Metaspace' || normalizers.length > 0 || (pre_tokenizer.replacement ?? '▁') !== '▁')
    return null
  const prefix = pre_tokenizer.prepend_scheme ?? 'always'
  if (prefix !== 'never' && prefix !== 'first' && prefix !== 'always') return null
  return { prefix, splitsSpaces: pre_tokenizer.split !== false }
}

/** The text of a section as BPE reads it. `isStart` and `isFirst` say that it begins a section, and the sequence. */
export function withPrefix(
  piece: string,
  prefix: SentencePieceForm['prefix'],
  isStart: boolean,
  isFirst: boolean,
): string {
  const spaced = piece.replaceAll(' ', '▁')
  if (!isStart || piece === '') return spaced
  if (prefix === 'prepend') return `▁${spaced}`
  const isPrefixed = prefix === 'always' || (prefix === 'first' && isFirst)
  return isPrefixed && !spaced.startsWith('▁') ? `▁${spaced}` : spaced
}

function replacesSpace(part: Record<string, unknown>): boolean {
  const pattern = part.pattern as { String?: unknown } | undefined
  return part.type === 'Replace' && part.content === '▁' && pattern?.String === ' '
}

function hasSuffixes(model: TokenizerJson['model']): boolean {
  return [model.continuing_subword_prefix, model.end_of_word_suffix].some(
    (suffix) => typeof suffix === 'string' && suffix !== '',
  )
}
