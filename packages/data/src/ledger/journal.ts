import { constants } from 'node:fs'
import { open, readFile } from 'node:fs/promises'
import { dirname } from 'node:path'
import { DataError, errorCodeOf } from '../errors.js'
import { entrySchema } from './entry.js'
import type { LedgerEntry } from './entry.js'

export interface Journal {
  entries: LedgerEntry[]
  /** Whole lines that are no entries; they are kept in the file and otherwise ignored. */
  badLines: number
  /** Bytes after the last whole line, which a killed run left. */
  tornBytes: number
}

/** Reads a ledger without changing it. A file that does not exist is an empty ledger. */
export async function readJournal(path: string): Promise<Journal> {
  const bytes = await readFile(path).catch((error: unknown) => {
    if (errorCodeOf(error) === 'ENOENT') return Buffer.alloc(0)
    throw ledgerError(`${path} cannot be read (${errorCodeOf(error)})`)
  })
  const wholeBytes = bytes.lastIndexOf(0x0a) + 1
  const journal: Journal = { entries: [], badLines: 0, tornBytes: bytes.length - wholeBytes }
  for (const line of bytes.subarray(0, wholeBytes).toString().split('\n')) {
    if (line.trim() === '') continue
    const entry = parseEntry(line)
    if (entry === null) journal.badLines++
    else journal.entries.push(entry)
  }
  return journal
}

/**
 * Puts an end to a line that a killed run has not finished: with a line end where only that is missing, else by cutting it
 * off. To be called by the holder of the lock. Returns how many bytes were cut off.
 */
export async function repairJournal(path: string): Promise<number> {
  const bytes = await readFile(path).catch(() => Buffer.alloc(0))
  const wholeBytes = bytes.lastIndexOf(0x0a) + 1
  if (wholeBytes === bytes.length) return 0
  const complete = parseEntry(bytes.subarray(wholeBytes).toString()) !== null
  const file = await open(path, 'r+')
  try {
    if (complete) await file.write('\n', bytes.length)
    else await file.truncate(wholeBytes)
    await file.sync()
  } finally {
    await file.close()
  }
  return complete ? 0 : bytes.length - wholeBytes
}

/** Appends lines in one write and waits until they are on the disk. Either all of them are there or none. */
export async function appendJournal(path: string, entries: readonly LedgerEntry[]): Promise<void> {
  const lines = Buffer.from(entries.map((entry) => `${JSON.stringify(entry)}\n`).join(''))
  try {
    const file = await open(path, constants.O_WRONLY | constants.O_APPEND | constants.O_CREAT, 0o600)
    try {
      const { size } = await file.stat()
      const { bytesWritten } = await file.write(lines)
      if (bytesWritten < lines.length) {
        await file.truncate(size)
        throw ledgerError(`${path} could not be written whole; free some space on the disk`)
      }
      await file.sync()
    } finally {
      await file.close()
    }
    await syncFolder(dirname(path))
  } catch (error) {
    if (error instanceof DataError) throw error
    throw ledgerError(`${path} cannot be written (${errorCodeOf(error)})`)
  }
}

async function syncFolder(path: string): Promise<void> {
  const folder = await open(path, constants.O_RDONLY)
  try {
    // Not every file system can do it; the file itself has been synced.
    await folder.sync().catch(() => undefined)
  } finally {
    await folder.close()
  }
}

function parseEntry(line: string): LedgerEntry | null {
  try {
    return entrySchema.parse(JSON.parse(line))
  } catch {
    return null
  }
}

export function ledgerError(message: string): DataError {
  return new DataError('MIRASTRAL_LEDGER', `ledger: ${message}`)
}
