import { randomUUID } from 'node:crypto'
import { closeSync, openSync, readSync, unlinkSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { DataError, errorCodeOf } from '../errors.js'

/**
 * A file for what does not fit memory, which only this process can read and which is gone when it ends, however it ends:
 * its name is removed as soon as it is open (where the system does not allow that, on `close`).
 */
export class TemporaryFile {
  private readonly file: number
  private readonly folder: string
  private left: string | undefined

  /** @throws DataError MIRASTRAL_DATA_OPTION where nothing can be written to the folder. */
  constructor(folder: string) {
    this.folder = folder
    const path = join(folder, `mirastral-${randomUUID()}.tmp`)
    try {
      this.file = openSync(path, 'wx+', 0o600)
    } catch (error) {
      throw temporaryError(folder, error)
    }
    this.left = tryUnlink(path) ? undefined : path
  }

  /** @throws DataError MIRASTRAL_DATA_OPTION where the disk is full. */
  write(bytes: Uint8Array, position: number): void {
    try {
      for (let done = 0; done < bytes.length;) {
        done += writeSync(this.file, bytes, done, bytes.length - done, position + done)
      }
    } catch (error) {
      throw temporaryError(this.folder, error)
    }
  }

  /** Fills `bytes` from a position on; what lies after the end of the file is not touched. */
  read(bytes: Uint8Array, position: number): void {
    for (let done = 0; done < bytes.length;) {
      const count = readSync(this.file, bytes, done, bytes.length - done, position + done)
      if (count === 0) return
      done += count
    }
  }

  close(): void {
    closeSync(this.file)
    if (this.left !== undefined) tryUnlink(this.left)
  }
}

function tryUnlink(path: string): boolean {
  try {
    unlinkSync(path)
    return true
  } catch {
    return false
  }
}

function temporaryError(folder: string, error: unknown): DataError {
  return new DataError(
    'MIRASTRAL_DATA_OPTION',
    `data: temporary files cannot be written in ${folder} (${errorCodeOf(error)}); free space there, or set TMPDIR`,
  )
}
