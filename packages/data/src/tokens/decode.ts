import type { TextEncoder } from './text-encoder.js'

/** Joins the tokens' bytes. The space before the first word of a SentencePiece text is the tokenizer's, not the text's. */
export function decodeWith(encoder: TextEncoder, ids: ArrayLike<number>, skipSpecialTokens: boolean): string {
  const kept = Array.from(ids).filter((id) => !(skipSpecialTokens && encoder.specialIds.has(id)))
  const written = Buffer.concat(kept.map((id) => encoder.bytes.of(id))).toString()
  return encoder.bytes.spelling === 'sentencepiece' && written.startsWith(' ') ? written.slice(1) : written
}
