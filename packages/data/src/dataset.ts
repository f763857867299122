import { IGNORE_INDEX } from './conversation.js'
import { ExampleRows } from './example-rows.js'
import type { TokenSource } from './example-rows.js'
import type { ResolvedDataOptions } from './options.js'
import type { ProcessedChunk } from './records/process-records.js'
import { addTally, count } from './records/tally.js'
import type { DataReport, FileReport, SideReport } from './report.js'

/** A place to go back to, where a file turns out to be broken. */
export interface DatasetMark {
  train: number
  eval: number
  conversations: number
}

/** Gathers processed chunks: removes duplicates, splits, counts. */
export class Dataset {
  readonly train = new ExampleRows()
  readonly eval = new ExampleRows()
  readonly files: FileReport[] = []
  private readonly options: ResolvedDataOptions
  private readonly seen = new Map<string, number>()
  private conversations = 0

  constructor(options: ResolvedDataOptions) {
    this.options = options
  }

  hasFile(sha256: string): boolean {
    return this.files.some((file) => file.status === 'used' && file.sha256 === sha256)
  }

  add(chunk: ProcessedChunk, report: FileReport): void {
    report.read += chunk.records
    for (const { rule } of chunk.drops) count(report.dropped, rule)
    addTally(report.formats, chunk.formats)
    addTally(report.adjustments, chunk.adjustments)
    addTally(report.truncated, chunk.truncated)
    addTally(report.redacted, chunk.redacted)
    Object.assign(report.reasons, chunk.reasons)
    const source: TokenSource = { read: (offset, length) => chunk.tokens.subarray(offset, offset + length) }
    let row = 0
    let offset = 0
    for (let i = 0; i < chunk.recordNumbers.length; i++) {
      const lengths = chunk.rowLengths.subarray(row, row + chunk.rowCounts[i])
      row += lengths.length
      const hash = Buffer.from(chunk.hashes.subarray(i * 16, i * 16 + 16)).toString('hex')
      const isDuplicate = this.options.duplicates !== 'keep' && this.seen.has(hash)
      if (isDuplicate) report.duplicates.exact++
      else {
        this.seen.set(hash, this.conversations++)
        report.used++
        report.examples += lengths.length
      }
      const side = chunk.splitPoints[i] < this.options.evalFraction ? this.eval : this.train
      for (const length of lengths) {
        if (!isDuplicate) side.add(source, offset, length)
        offset += length
      }
    }
  }

  mark(): DatasetMark {
    return { train: this.train.length, eval: this.eval.length, conversations: this.conversations }
  }

  rollBack(mark: DatasetMark): void {
    this.train.truncate(mark.train)
    this.eval.truncate(mark.eval)
    for (const [hash, number] of this.seen) if (number >= mark.conversations) this.seen.delete(hash)
    this.conversations = mark.conversations
  }

  report(ignoredFiles: number, ledger: DataReport['ledger']): DataReport {
    const totals: DataReport['totals'] = {
      ...{ read: 0, used: 0, dropped: {}, duplicates: { exact: 0, near: 0 } },
      ...{ adjustments: {}, truncated: {}, redacted: {} },
    }
    for (const file of this.files) {
      totals.read += file.read
      totals.used += file.used
      totals.duplicates.exact += file.duplicates.exact
      totals.duplicates.near += file.duplicates.near
      for (const tally of ['dropped', 'adjustments', 'truncated', 'redacted'] as const)
        addTally(totals[tally], file[tally])
    }
    return { files: this.files, ignoredFiles, totals, train: sideOf(this.train), eval: sideOf(this.eval), ledger }
  }
}

function sideOf(rows: ExampleRows): SideReport {
  let trainedTokens = 0
  for (const { labels } of rows) for (const label of labels) if (label !== IGNORE_INDEX) trainedTokens++
  return { examples: rows.length, tokens: rows.tokens, trainedTokens }
}
