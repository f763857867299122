import { IGNORE_INDEX } from '../conversation.js'
import type { TokenizedExample } from '../conversation.js'
import type { TokenWords } from '../rows/example-rows.js'
import { HASH_BYTES } from './hash-index.js'
import { SIGNATURE_BYTES } from './min-hash.js'
import type { Rule } from './rules.js'
import type { Tally } from './tally.js'

/** A record that was not used, for the quarantine report. */
export interface Drop {
  record: number
  rule: Rule
  where?: string
}

/** What is counted over some records. */
export interface ChunkCounts {
  /** How many records went in. */
  records: number
  drops: Drop[]
  /** Records by format, and why each format was recognised. */
  formats: Tally
  reasons: Record<string, string>
  adjustments: Tally
  /** Conversations by what was done to make them fit: shortened, cut, split. */
  truncated: Tally
  redacted: Tally
  /** Conversations for which training and serving would write the prompt of the last answer differently. */
  servingDiffers: number
}

/** What is known of the conversations of a chunk without their tokens. */
export interface ChunkColumns extends ChunkCounts {
  /** Per conversation: its content hash, its MinHash signature, its place in [0, 1) for the split, its number of rows. */
  hashes: Uint8Array
  signatures: Uint8Array
  splitPoints: Float64Array
  rowCounts: Uint32Array
  /** Per row: its tokens, and how many of them are trained on. */
  rowLengths: Uint32Array
  rowTrained: Uint32Array
}

/** What was made of some records in a row. Columns rather than objects: chunks cross threads and are kept on disk. */
export interface ProcessedChunk extends ChunkColumns {
  tokens: TokenWords
}

/** Gathers conversations into a chunk. */
export class ChunkBuilder {
  readonly counts: ChunkCounts = {
    ...{
      records: 0,
      drops: [],
      formats: {},
      reasons: {},
      adjustments: {},
      truncated: {},
      redacted: {},
      servingDiffers: 0,
    },
  }
  private readonly hashes: string[] = []
  private readonly signatures: Uint8Array[] = []
  private readonly splitPoints: number[] = []
  private readonly rowCounts: number[] = []
  private readonly rows: TokenizedExample[] = []

  add(hash: string, signature: Uint8Array, splitPoint: number, rows: readonly TokenizedExample[]): void {
    this.hashes.push(hash)
    this.signatures.push(signature)
    this.splitPoints.push(splitPoint)
    this.rowCounts.push(rows.length)
    this.rows.push(...rows)
  }

  /** @param vocabSize decides whether 16 bits hold a token and its flag. */
  build(vocabSize: number): ProcessedChunk {
    const rowLengths = Uint32Array.from(this.rows, (row) => row.inputIds.length)
    const rowTrained = new Uint32Array(this.rows.length)
    const total = rowLengths.reduce((sum, length) => sum + length, 0)
    const tokens = vocabSize <= 1 << 15 ? new Uint16Array(total) : new Uint32Array(total)
    let at = 0
    this.rows.forEach(({ inputIds, labels }, row) => {
      for (let i = 0; i < inputIds.length; i++) {
        const trained = labels[i] === IGNORE_INDEX ? 0 : 1
        // The first token is predicted by nothing.
        if (i > 0) rowTrained[row] += trained
        tokens[at++] = inputIds[i] * 2 + trained
      }
    })
    const signatures = new Uint8Array(this.signatures.length * SIGNATURE_BYTES)
    this.signatures.forEach((signature, i) => signatures.set(signature, i * SIGNATURE_BYTES))
    const hashes = new Uint8Array(this.hashes.length * HASH_BYTES)
    hashes.set(Buffer.from(this.hashes.join(''), 'hex'))
    return {
      ...this.counts,
      hashes,
      signatures,
      splitPoints: Float64Array.from(this.splitPoints),
      rowCounts: Uint32Array.from(this.rowCounts),
      ...{ rowLengths, rowTrained, tokens },
    }
  }
}
