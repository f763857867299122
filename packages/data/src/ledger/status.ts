import { resolve } from 'node:path'
import { FileError } from '../read/file-problems.js'
import type { FileProblem } from '../read/file-problems.js'
import { identify } from '../read/hash-file.js'
import { listInputFiles } from '../read/input-files.js'
import type { Ledger, Standing } from './ledger.js'

export interface FileStanding {
  path: string
  standing: Standing
  /** The path under which the same content was processed, where it is another one. */
  processedAs?: string
  problem?: FileProblem
}

/** How the files of some inputs stand in the ledger, in the order in which a run would read them. */
export async function ledgerStatus(ledger: Ledger, inputs: readonly string[]): Promise<FileStanding[]> {
  const { files, unreadable } = await listInputFiles(inputs, [ledger.path])
  const standings: FileStanding[] = unreadable.map(({ path, problem }) => ({ path, standing: 'failed', problem }))
  for (const { path } of files) standings.push(await standingOf(ledger, path))
  return standings
}

async function standingOf(ledger: Ledger, path: string): Promise<FileStanding> {
  try {
    const { sha256 } = await identify(path)
    const full = resolve(path)
    const entry = ledger.processed(sha256, full)
    const renamed = entry !== undefined && entry.path !== full
    return { path, standing: ledger.standing(sha256, full), ...(renamed ? { processedAs: entry.path } : {}) }
  } catch (error) {
    if (!(error instanceof FileError)) throw error
    return { path, standing: 'failed', problem: error.problem }
  }
}
