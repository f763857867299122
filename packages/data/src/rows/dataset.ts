import { createHash } from 'node:crypto'
import type { Fingerprints } from '../ledger/fingerprints.js'
import { HASH_BYTES, HashIndex } from '../records/hash-index.js'
import { SIGNATURE_BYTES } from '../records/min-hash.js'
import { NearIndex } from '../records/near-index.js'
import type { ChunkColumns } from '../records/processed-chunk.js'
import { addTally, count } from '../records/tally.js'
import type { FileReport } from '../report.js'
import { ExampleRows } from './example-rows.js'
import type { TokenSource } from './example-rows.js'

export interface DatasetOptions {
  duplicates: 'keep' | 'exact' | 'near'
  evalFraction: number
  /** 2 for preference pairs, whose rows come in twos. */
  rowsPerExample: 1 | 2
}

/** A place to go back to, where a file turns out to be broken. */
export interface DatasetMark {
  train: number
  eval: number
  conversations: number
}

type Verdict = 'new' | 'exact' | 'near'

/** Gathers processed chunks: removes duplicates, splits, counts. */
export class Dataset {
  readonly train = new ExampleRows()
  readonly eval = new ExampleRows()
  readonly options: DatasetOptions
  private readonly hashes = new HashIndex()
  private readonly near = new NearIndex()
  /** How many of the known conversations are of earlier runs. */
  private readonly earlier: number

  /** @param known the conversations of earlier runs, which count as duplicates. */
  constructor(options: DatasetOptions, known?: Fingerprints) {
    this.options = options
    const length = known === undefined ? 0 : known.hashes.length / HASH_BYTES
    for (let i = 0; known !== undefined && i < length; i++) this.remember(known.hashes, known.signatures, i)
    this.earlier = length
  }

  /** @param source where the chunk's tokens are, from its first on. */
  add(chunk: ChunkColumns, source: TokenSource, report: FileReport): void {
    report.read += chunk.records
    report.servingDiffers += chunk.servingDiffers
    for (const { rule } of chunk.drops) count(report.dropped, rule)
    for (const tally of ['formats', 'adjustments', 'truncated', 'redacted'] as const)
      addTally(report[tally], chunk[tally])
    Object.assign(report.reasons, chunk.reasons)
    let row = 0
    let offset = 0
    for (let i = 0; i < chunk.rowCounts.length; i++) {
      const verdict = this.judge(chunk, i)
      const side = chunk.splitPoints[i] < this.options.evalFraction ? this.eval : this.train
      for (const end = row + chunk.rowCounts[i]; row < end; row++) {
        if (verdict === 'new') side.add(source, offset, chunk.rowLengths[row], chunk.rowTrained[row])
        offset += chunk.rowLengths[row]
      }
      if (verdict !== 'new') {
        report.duplicates[verdict]++
        continue
      }
      report.used++
      report.examples += chunk.rowCounts[i] / this.options.rowsPerExample
      this.remember(chunk.hashes, chunk.signatures, i)
    }
  }

  mark(): DatasetMark {
    return { train: this.train.length, eval: this.eval.length, conversations: this.hashes.length }
  }

  rollBack(mark: DatasetMark): void {
    this.train.truncate(mark.train)
    this.eval.truncate(mark.eval)
    this.hashes.truncate(mark.conversations)
    this.near.truncate(mark.conversations)
  }

  /** Of the conversations of this run. */
  fingerprints(): Fingerprints {
    const hashes = this.hashes.from(this.earlier)
    const signatures =
      this.options.duplicates === 'near'
        ? this.near.from(this.earlier)
        : new Uint8Array((hashes.length / HASH_BYTES) * SIGNATURE_BYTES)
    return { hashes, signatures }
  }

  /** Equal for the same conversations in the same order. SHA-256. */
  contentHash(): string {
    return createHash('sha256').update(this.hashes.from(this.earlier)).digest('hex')
  }

  private judge(chunk: ChunkColumns, index: number): Verdict {
    const { duplicates } = this.options
    if (duplicates === 'keep') return 'new'
    if (this.hashes.has(chunk.hashes.subarray(index * HASH_BYTES, (index + 1) * HASH_BYTES))) return 'exact'
    if (duplicates === 'exact') return 'new'
    return this.near.has(signatureAt(chunk.signatures, index)) ? 'near' : 'new'
  }

  private remember(hashes: Uint8Array, signatures: Uint8Array, index: number): void {
    this.hashes.add(hashes.subarray(index * HASH_BYTES, (index + 1) * HASH_BYTES))
    if (this.options.duplicates === 'near') this.near.add(signatureAt(signatures, index))
  }
}

function signatureAt(signatures: Uint8Array, index: number): Uint8Array {
  return signatures.subarray(index * SIGNATURE_BYTES, (index + 1) * SIGNATURE_BYTES)
}
