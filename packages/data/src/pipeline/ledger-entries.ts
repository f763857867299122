import { resolve } from 'node:path'
import type { LedgerEntry } from '../ledger/entry.js'
import type { FileReport } from '../report.js'

/** What a training run reports back, for the ledger. */
export interface RunRecord {
  /** The first and last optimizer step that saw the data, counted from 1. */
  steps?: readonly [first: number, last: number]
  /** The version of the adapter that came out. */
  adapter?: string
}

/** The ledger's line for a file of this run; none for a file that was already in it. */
export function entriesOf(file: FileReport, run: RunRecord): LedgerEntry[] {
  if (file.status === 'processed' || file.status === 'same-content') return []
  const isUsed = file.status === 'used'
  return [
    {
      version: 1,
      status: isUsed ? 'processed' : 'failed',
      path: resolve(file.path),
      size: file.size,
      sha256: file.sha256 === '' ? null : file.sha256,
      time: new Date().toISOString(),
      formats: file.formats,
      rows: { read: file.read, used: file.used, dropped: file.dropped, duplicates: file.duplicates },
      steps: isUsed && run.steps !== undefined ? [run.steps[0], run.steps[1]] : null,
      adapter: isUsed ? (run.adapter ?? null) : null,
      ...(file.problem === undefined ? {} : { problem: file.problem }),
    },
  ]
}
