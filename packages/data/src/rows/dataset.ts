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
import type { PagedMemory } from './paged-memory.js'

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

/** Conversations whose fingerprints are handed out at a time. */
const BATCH = 4096

type Verdict = 'new' | 'exact' | 'near'

/** Gathers processed chunks: removes duplicates, splits, counts. */
export class Dataset {
  readonly train: ExampleRows
  readonly eval: ExampleRows
  readonly options: DatasetOptions
  private readonly hashes: HashIndex
  private readonly near: NearIndex
  /** How many of the known conversations are of earlier runs. */
  private earlier = 0

  /** @param expected about how many conversations will be added. */
  constructor(options: DatasetOptions, memory: PagedMemory, expected = 0) {
    this.options = options
    this.train = new ExampleRows(memory)
    this.eval = new ExampleRows(memory)
    this.hashes = new HashIndex(memory)
    this.near = new NearIndex(memory, expected)
  }

  /** Takes conversations of earlier runs in, which count as duplicates. To be called before anything is added. */
  know({ hashes, signatures }: Fingerprints): void {
    const count = hashes.length / HASH_BYTES
    for (let i = 0; i < count; i++) this.remember(hashes, signatures, i)
    this.earlier += count
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

  /** Of the conversations of this run, some at a time. */
  *fingerprints(): Generator<Fingerprints> {
    const isNear = this.options.duplicates === 'near'
    for (let start = this.earlier; start < this.hashes.length; start += BATCH) {
      const count = Math.min(BATCH, this.hashes.length - start)
      const hashes = new Uint8Array(count * HASH_BYTES)
      const signatures = new Uint8Array(count * SIGNATURE_BYTES)
      for (let i = 0; i < count; i++) {
        hashes.set(this.hashes.at(start + i), i * HASH_BYTES)
        if (isNear) signatures.set(this.near.at(start + i), i * SIGNATURE_BYTES)
      }
      yield { hashes, signatures }
    }
  }

  /** Equal for the same conversations in the same order. SHA-256. */
  contentHash(): string {
    const sum = createHash('sha256')
    for (const { hashes } of this.fingerprints()) sum.update(hashes)
    return sum.digest('hex')
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
