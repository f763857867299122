import { printable } from './errors.js'
import { FILE_PROBLEMS } from './read/file-problems.js'
import { ADJUSTMENTS, RULES } from './records/rules.js'
import type { Tally } from './records/tally.js'
import type { DataReport, FileReport } from './report.js'

/** A report in words: a line per file that was read or failed, and the totals. No colours. */
export function formatReport(report: DataReport): string {
  const { totals, train, eval: held } = report
  const skipped = report.files.filter((file) => file.status !== 'used' && file.status !== 'failed').length
  const shown = report.files.filter((file) => file.status === 'used' || file.status === 'failed')
  const [used, rows] = report.kind === 'pairs' ? ['preference pairs', 'pairs'] : ['conversations', 'rows']
  const lines = [
    ...shown.map(fileLine),
    ...(skipped === 0 ? [] : [`${skipped} files have been processed already, or are copies`]),
    ...(report.ignoredFiles === 0 ? [] : [`${report.ignoredFiles} files are no data files`]),
    `${totals.read} records: ${totals.used} ${used} used, ${totals.duplicates.exact} duplicates, ${totals.duplicates.near} near-duplicates`,
    ...tallyLines('not used', totals.dropped, RULES),
    ...tallyLines('changed', totals.adjustments, ADJUSTMENTS),
    ...tallyLines('longer than the sequence length', totals.truncated),
    ...tallyLines('replaced', totals.redacted),
    `train: ${train.examples} ${rows}, ${train.tokens} tokens, ${train.trainedTokens} trained on`,
    `eval: ${held.examples} ${rows}, ${held.tokens} tokens, ${held.trainedTokens} counted`,
  ]
  lines.push(...report.notes.map((note) => `note: ${note}`))
  if (report.ledger !== null && report.ledger.tornBytes > 0) {
    lines.push(
      `ledger: an unfinished line of ${report.ledger.tornBytes} bytes was cut off; a run was killed while writing it`,
    )
  }
  if (report.ledger !== null && report.ledger.badLines > 0) {
    lines.push(`ledger: ${report.ledger.badLines} lines are no entries and were ignored`)
  }
  return lines.join('\n')
}

function fileLine(file: FileReport): string {
  const path = printable(file.path)
  if (file.problem !== undefined) {
    const detail = file.detail === undefined ? '' : ` (${file.detail})`
    return `${path}: ${FILE_PROBLEMS[file.problem]}${detail}; left for the next run`
  }
  const formats = Object.entries(file.formats).map(([name, count]) => `${count} ${name}`)
  return `${path}: ${file.used} of ${file.read} records used (${formats.join(', ')})`
}

function tallyLines(title: string, tally: Tally, words: Readonly<Record<string, string>> = {}): string[] {
  const lines = Object.entries(tally).map(([name, count]) => `  ${count} ${words[name] ?? name}`)
  return lines.length === 0 ? [] : [`${title}:`, ...lines]
}
