import { resolve } from 'node:path'
import type { Ledger } from '../ledger/ledger.js'
import { FileError } from '../read/file-problems.js'
import { identify } from '../read/hash-file.js'
import type { FileIdentity } from '../read/hash-file.js'
import type { InputFile, InputFiles } from '../read/input-files.js'
import type { Quarantine } from '../records/quarantine.js'
import { emptyFileReport } from '../report.js'
import type { FileReport } from '../report.js'
import type { Dataset } from '../rows/dataset.js'
import { processFile } from './file-pipeline.js'
import type { FilePipeline } from './file-pipeline.js'
import type { DataManifest } from './manifest.js'

/** A file whose content is known. */
export interface IdentifiedFile {
  file: InputFile
  identity: FileIdentity
  report: FileReport
}

export interface IdentifiedFiles {
  /** To be read, in order. */
  toRead: IdentifiedFile[]
  /** All files, also those that are not to be read, in the order of the inputs. */
  reports: FileReport[]
}

/** Hashes the files and decides which are to be read: those that the ledger does not know, or those of a manifest. */
export async function identifyFiles(
  listed: InputFiles,
  ledger: Ledger | undefined,
  manifest: DataManifest | undefined,
): Promise<IdentifiedFiles> {
  const found: IdentifiedFiles = { toRead: [], reports: [] }
  const place = new Map(manifest?.files.map(({ sha256 }, i) => [sha256, i]))
  const seen = new Set<string>()
  for (const { path, problem, detail } of listed.unreadable) {
    found.reports.push({ ...emptyFileReport(path), status: 'failed', problem, detail })
  }
  for (const file of listed.files) {
    const report = emptyFileReport(file.path)
    found.reports.push(report)
    try {
      const identity = await identify(file.path)
      const { sha256, size } = identity
      Object.assign(report, { sha256, size })
      if (seen.has(sha256)) report.status = 'same-content'
      else if (manifest !== undefined && !place.has(sha256)) report.status = 'later'
      else if (manifest === undefined && ledger?.processed(sha256, resolve(file.path)) !== undefined)
        report.status = 'processed'
      else found.toRead.push({ file, identity, report })
      seen.add(sha256)
    } catch (error) {
      fail(report, error)
    }
  }
  const placeOf = ({ identity }: IdentifiedFile): number => place.get(identity.sha256) ?? 0
  found.toRead.sort((a, b) => placeOf(a) - placeOf(b))
  return found
}

/** Reads files into the data set. One that cannot be read to its end leaves nothing in it. */
export async function readFiles(
  files: readonly IdentifiedFile[],
  pipeline: FilePipeline,
  dataset: Dataset,
  quarantine: Quarantine | undefined,
): Promise<void> {
  for (const { file, identity, report } of files) {
    const mark = dataset.mark()
    try {
      for await (const { columns, source } of processFile(file, identity, pipeline)) {
        dataset.add(columns, source, report)
        await quarantine?.addRecords(file.path, identity.sha256, columns.drops)
      }
      if (report.read === 0) throw new FileError('no-records')
    } catch (error) {
      dataset.rollBack(mark)
      const { sha256, size } = identity
      Object.assign(report, emptyFileReport(file.path), { sha256, size })
      fail(report, error)
    }
    // Counted, but read again by the next run: another version, or an option, may make its records usable.
    const isUseless = report.used + report.duplicates.exact + report.duplicates.near === 0
    if (report.status === 'used' && isUseless) Object.assign(report, { status: 'failed', problem: 'nothing-usable' })
  }
}

/** @throws the error, where it is not about the file. */
function fail(report: FileReport, error: unknown): void {
  if (!(error instanceof FileError)) throw error
  report.status = 'failed'
  report.problem = error.problem
  if (error.detail !== undefined) report.detail = error.detail
}
