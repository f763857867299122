import type { FileProblem } from './read/file-problems.js'
import { addTally } from './records/tally.js'
import type { Tally } from './records/tally.js'
import type { Dataset } from './rows/dataset.js'
import type { ExampleRows } from './rows/example-rows.js'

/** What became of one input file. */
export interface FileReport {
  path: string
  size: number
  /** Empty where the file could not be read. */
  sha256: string
  /**
   * `used`: read in this run; `processed`: an earlier run had it, by the ledger; `same-content`: a file before it has the
   * same bytes; `later`: not part of the run that is resumed; `failed`: left for the next run.
   */
  status: 'used' | 'processed' | 'same-content' | 'later' | 'failed'
  problem?: FileProblem
  /** The system's word for what went wrong, such as EACCES. */
  detail?: string
  /** Records in the file. A record may hold several conversations. */
  read: number
  /** Conversations that are trained or evaluated on. */
  used: number
  /** Records that were not used, by rule. */
  dropped: Tally
  duplicates: { exact: number; near: number }
  formats: Tally
  /** Why each format was recognised. */
  reasons: Record<string, string>
  adjustments: Tally
  truncated: Tally
  redacted: Tally
  /** Conversations for which training and serving would write the prompt of the last answer differently. */
  servingDiffers: number
  /** Rows (or preference pairs) that came out of the file. */
  examples: number
}

export interface SideReport {
  /** Rows, or preference pairs. */
  examples: number
  tokens: number
  trainedTokens: number
}

/** Counts and hashes, and never any text of a conversation. */
export interface DataReport {
  /** What was read out of the records. */
  kind: 'conversations' | 'pairs'
  files: FileReport[]
  /** Files in the input folders whose names are not those of data files. */
  ignoredFiles: number
  totals: Pick<
    FileReport,
    'read' | 'used' | 'dropped' | 'duplicates' | 'adjustments' | 'truncated' | 'redacted' | 'servingDiffers'
  >
  train: SideReport
  eval: SideReport
  /** What the user should know about the tokenizer. */
  notes: string[]
  /** What was wrong with the ledger; null without one. */
  ledger: { tornBytes: number; badLines: number } | null
}

export function emptyFileReport(path: string): FileReport {
  return {
    ...{ path, size: 0, sha256: '', status: 'used', read: 0, used: 0, dropped: {}, duplicates: { exact: 0, near: 0 } },
    ...{ formats: {}, reasons: {}, adjustments: {}, truncated: {}, redacted: {}, servingDiffers: 0, examples: 0 },
  }
}

export function reportOf(
  files: FileReport[],
  dataset: Dataset,
  ignoredFiles: number,
  notes: string[],
  ledger: DataReport['ledger'],
): DataReport {
  const totals: DataReport['totals'] = {
    ...{ read: 0, used: 0, dropped: {}, duplicates: { exact: 0, near: 0 } },
    ...{ adjustments: {}, truncated: {}, redacted: {}, servingDiffers: 0 },
  }
  for (const file of files) {
    totals.read += file.read
    totals.used += file.used
    totals.servingDiffers += file.servingDiffers
    totals.duplicates.exact += file.duplicates.exact
    totals.duplicates.near += file.duplicates.near
    for (const tally of ['dropped', 'adjustments', 'truncated', 'redacted'] as const)
      addTally(totals[tally], file[tally])
  }
  const { rowsPerExample } = dataset.options
  const sideOf = ({ length, tokens, trainedTokens }: ExampleRows): SideReport => ({
    ...{ examples: length / rowsPerExample, tokens, trainedTokens },
  })
  return {
    kind: rowsPerExample === 2 ? 'pairs' : 'conversations',
    ...{ files, ignoredFiles, totals, train: sideOf(dataset.train), eval: sideOf(dataset.eval), notes, ledger },
  }
}
