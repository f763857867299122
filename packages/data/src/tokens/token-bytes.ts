import type { TokenizerJson } from './tokenizer-files.js'
import { tokenizerError } from './tokenizer-files.js'

/** How a vocabulary writes bytes: SentencePiece's "▁" and `<0x0A>`, GPT-2's byte alphabet, or text as it is. */
export type TokenSpelling = 'sentencepiece' | 'byte-level' | 'plain'

/** The UTF-8 bytes that a token stands for in the text. */
export interface TokenBytes {
  readonly spelling: TokenSpelling
  /** @throws DataError MIRASTRAL_DATA_TOKENIZER for an id outside the vocabulary. */
  of(id: number): Uint8Array
}

export function tokenBytesOf(json: TokenizerJson): TokenBytes {
  const spelling = spellingOf(json)
  const names = tokenNames(json)
  const raw = new Set(json.added_tokens.map((token) => token.id))
  const decodeName = spelling === 'byte-level' ? byteLevelDecoder() : undefined
  const known = new Map<number, Uint8Array>()
  return {
    spelling,
    of(id) {
      const cached = known.get(id)
      if (cached !== undefined) return cached
      const name = names.get(id)
      if (name === undefined) throw tokenizerError(`a token id must be in the vocabulary, got ${id}`)
      const bytes = raw.has(id) ? Buffer.from(name) : bytesOfName(name, spelling, decodeName)
      known.set(id, bytes)
      return bytes
    },
  }
}

/** Every token's spelling by id, the added tokens' last, as they replace a piece of the same id. */
export function tokenNames(json: TokenizerJson): Map<number, string> {
  const names = new Map<number, string>()
  const { vocab } = json.model
  if (Array.isArray(vocab)) vocab.forEach(([name], id) => names.set(id, name))
  else for (const [name, id] of Object.entries(vocab)) names.set(id, name)
  for (const { id, content } of json.added_tokens) names.set(id, content)
  return names
}

/** True where any part of the tokenizer (also inside a Sequence) has the type. */
export function hasPart(part: unknown, type: string): boolean {
  return partsOf(part).some((p) => p.type === type)
}

/** A component and, where it is a Sequence, its members in order. */
export function partsOf(part: unknown): Record<string, unknown>[] {
  if (typeof part !== 'object' || part === null) return []
  const self = part as Record<string, unknown>
  const members = [self.normalizers, self.pretokenizers, self.decoders].filter(Array.isArray).flat()
  return [self, ...members.flatMap((member) => partsOf(member))]
}

function spellingOf({ normalizer, pre_tokenizer, decoder }: TokenizerJson): TokenSpelling {
  if (hasPart(pre_tokenizer, 'ByteLevel') || hasPart(decoder, 'ByteLevel')) return 'byte-level'
  const writesSpace = partsOf(normalizer).some((part) => part.type === 'Replace' && part.content === '▁')
  return writesSpace || hasPart(pre_tokenizer, 'Metaspace') ? 'sentencepiece' : 'plain'
}

function bytesOfName(name: string, spelling: TokenSpelling, byteLevel?: (name: string) => Uint8Array): Uint8Array {
  if (byteLevel !== undefined) return byteLevel(name)
  if (spelling === 'plain') return Buffer.from(name)
  const byte = /^<0x([0-9A-F]{2})>$/.exec(name)
  return byte === null ? Buffer.from(name.replaceAll('▁', ' ')) : Uint8Array.of(Number.parseInt(byte[1], 16))
}

/** GPT-2's `bytes_to_unicode`: printable Latin-1 bytes stand for themselves, the others for U+0100 and up, in order. */
function byteLevelDecoder(): (name: string) => Uint8Array {
  const byteOf = new Map<string, number>()
  let next = 0x100
  for (let byte = 0; byte < 256; byte++) {
    const printable = (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae
    byteOf.set(String.fromCodePoint(printable ? byte : next++), byte)
  }
  return (name) => Uint8Array.from(Array.from(name).flatMap((char) => byteOf.get(char) ?? [...Buffer.from(char)]))
}
