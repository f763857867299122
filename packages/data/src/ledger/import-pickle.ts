import { stat } from 'node:fs/promises'
import { dirname, isAbsolute, resolve } from 'node:path'
import { identify } from '../read/hash-file.js'
import { entrySchema } from './entry.js'
import type { LedgerEntry } from './entry.js'
import type { Ledger } from './ledger.js'
import { readPickledPaths } from './pickle.js'

export interface ImportReport {
  /** Paths in the pickle. */
  paths: number
  /** New lines in the ledger. */
  imported: number
  /** Of them, files that no longer exist: they are known by their path only. */
  missing: number
  /** Paths that the ledger knew already. */
  known: number
}

/**
 * Takes the files of the Python system's `processed_files.pkl` into the ledger. Relative paths are meant from `base`
 * (default: the pickle's folder).
 */
export async function importPickle(ledger: Ledger, path: string, base = dirname(path)): Promise<ImportReport> {
  const paths = await readPickledPaths(path)
  const report: ImportReport = { paths: paths.length, imported: 0, missing: 0, known: 0 }
  const known = new Set(ledger.entries.filter(({ status }) => status !== 'failed').map((entry) => entry.path))
  const entries: LedgerEntry[] = []
  for (const written of paths) {
    const file = isAbsolute(written) ? written : resolve(base, written)
    if (known.has(file)) {
      report.known++
      continue
    }
    const isFile = await stat(file).then(
      (info) => info.isFile(),
      () => false,
    )
    const { sha256, size } = isFile ? await identify(file) : { sha256: null, size: 0 }
    if (!isFile) report.missing++
    report.imported++
    const time = new Date().toISOString()
    entries.push(entrySchema.parse({ version: 1, status: 'imported', path: file, size, sha256, time }))
  }
  await ledger.append(entries)
  return report
}
