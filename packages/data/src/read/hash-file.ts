import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { stat } from 'node:fs/promises'
import { errorCodeOf } from '../errors.js'
import { FileError } from './file-problems.js'

/** The content of a file, and how the system tells whether it was written to since. */
export interface FileIdentity {
  sha256: string
  size: number
  mtimeMs: number
}

/** @throws FileError unreadable. */
export async function identify(path: string): Promise<FileIdentity> {
  const hash = createHash('sha256')
  try {
    const { size, mtimeMs } = await stat(path)
    for await (const chunk of createReadStream(path, { highWaterMark: 1 << 20 })) hash.update(chunk as Uint8Array)
    return { sha256: hash.digest('hex'), size, mtimeMs }
  } catch (error) {
    throw new FileError('unreadable', errorCodeOf(error))
  }
}

/** @throws FileError changed-while-reading. */
export async function requireUnchanged(path: string, { size, mtimeMs }: FileIdentity): Promise<void> {
  const now = await stat(path).catch(() => null)
  if (now?.size !== size || now.mtimeMs !== mtimeMs) throw new FileError('changed-while-reading')
}
