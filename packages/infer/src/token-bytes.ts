import { InferError } from './errors.js'

/** The parts of a `tokenizer.json` of Hugging Face tokenizers that decide which bytes a token stands for. */
interface TokenizerJson {
  readonly model?: { readonly vocab?: Record<string, number> | (readonly [string, number])[] }
  readonly added_tokens?: readonly { readonly id: number; readonly content: string; readonly special: boolean }[]
  readonly decoder?: DecoderJson | null
}

interface DecoderJson {
  readonly type: string
  readonly decoders?: readonly DecoderJson[]
  readonly prepend_scheme?: string
  readonly add_prefix_space?: boolean
  readonly pattern?: { readonly String?: string }
  readonly content?: string
  readonly start?: number
}

/** What each token id adds to a text, as bytes of UTF-8. */
export interface TokenBytes {
  /** Undefined for ids without text: special tokens, and ids that the vocabulary does not have. */
  readonly bytes: readonly (Uint8Array | undefined)[]
  /** Whether decoding a whole text drops one space at its start, as Metaspace tokenizers do. */
  readonly stripsLeadingSpace: boolean
  /** The ids of special tokens by their content. */
  readonly specialTokens: ReadonlyMap<string, number>
}

const utf8 = new TextEncoder()
const metaspace = '\u2581'

/**
 * Reads the byte strings of all tokens from a parsed `tokenizer.json`. Understands byte-level tokenizers (Llama 3, Tekken)
 * and Metaspace ones with byte fallback (Mistral, Llama 2). Throws `InferError` for other decoders.
 */
export function tokenBytesFromJson(json: unknown): TokenBytes {
  const tokenizer = json as TokenizerJson
  const vocab = tokenizer.model?.vocab
  if (vocab === undefined || tokenizer.decoder === undefined || tokenizer.decoder === null) {
    throw new InferError('MIRASTRAL_INFER_TOKENIZER', 'tokenBytesFromJson: needs a model.vocab and a decoder, got none')
  }
  const decoder = readDecoder(tokenizer.decoder)
  const pieces: (readonly [string, number])[] = Array.isArray(vocab)
    ? vocab.map(([piece], id) => [piece, id] as const)
    : Object.entries(vocab)

  const bytes: (Uint8Array | undefined)[] = []
  for (const [piece, id] of pieces) bytes[id] = decoder.bytesOf(piece)
  const specialTokens = new Map<string, number>()
  for (const { id, content, special } of tokenizer.added_tokens ?? []) {
    if (special) specialTokens.set(content, id)
    bytes[id] = special ? undefined : utf8.encode(content)
  }
  return { bytes: Array.from(bytes), stripsLeadingSpace: decoder.stripsLeadingSpace, specialTokens }
}

interface PieceDecoder {
  bytesOf(piece: string): Uint8Array
  readonly stripsLeadingSpace: boolean
}

const understood = new Set(['ByteLevel', 'Metaspace', 'Replace', 'ByteFallback', 'Fuse', 'Strip'])

function readDecoder(root: DecoderJson): PieceDecoder {
  const steps = flatten(root)
  const unknown = steps.find((step) => !understood.has(step.type))
  if (unknown !== undefined) {
    const known = [...understood].join(', ')
    throw new InferError('MIRASTRAL_INFER_TOKENIZER', `tokenizer.json: decoder must be ${known}, got ${unknown.type}`)
  }
  if (steps.some((step) => step.type === 'ByteLevel')) {
    const table = byteLevelTable()
    return { bytesOf: (piece) => byteLevelBytes(piece, table), stripsLeadingSpace: false }
  }
  const byteFallback = steps.some((step) => step.type === 'ByteFallback')
  const spaces = steps.some((s) => s.type === 'Metaspace' || (s.type === 'Replace' && s.pattern?.String === metaspace))
  const strips = steps.some(
    (step) =>
      (step.type === 'Strip' && step.content === ' ' && (step.start ?? 0) > 0) ||
      (step.type === 'Metaspace' && step.prepend_scheme !== 'never' && step.add_prefix_space !== false),
  )
  return {
    bytesOf: (piece) => {
      const byte = byteFallback ? /^<0x([0-9A-Fa-f]{2})>$/.exec(piece) : null
      if (byte !== null) return Uint8Array.of(Number.parseInt(byte[1], 16))
      return utf8.encode(spaces ? piece.replaceAll(metaspace, ' ') : piece)
    },
    stripsLeadingSpace: strips,
  }
}

function flatten(decoder: DecoderJson): DecoderJson[] {
  return decoder.type === 'Sequence' ? (decoder.decoders ?? []).flatMap(flatten) : [decoder]
}

/** The inverse of GPT-2's `bytes_to_unicode`: printable bytes stand for themselves, the others for U+0100 and up. */
function byteLevelTable(): Map<string, number> {
  const printable = (b: number): boolean => (b >= 0x21 && b <= 0x7e) || (b >= 0xa1 && b <= 0xac) || b >= 0xae
  const table = new Map<string, number>()
  let next = 0x100
  for (let byte = 0; byte < 256; byte++) {
    table.set(String.fromCodePoint(printable(byte) ? byte : next++), byte)
  }
  return table
}

function byteLevelBytes(piece: string, table: ReadonlyMap<string, number>): Uint8Array {
  const bytes: number[] = []
  for (const character of piece) {
    const byte = table.get(character)
    if (byte === undefined) bytes.push(...utf8.encode(character))
    else bytes.push(byte)
  }
  return Uint8Array.from(bytes)
}
