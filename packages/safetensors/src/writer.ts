import { randomBytes } from 'node:crypto'
import type { FileHandle } from 'node:fs/promises'
import { open, rename, rm } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { SafetensorsError, systemError } from './errors.js'
import type { TensorHeader, TensorInfo } from './header.js'
import { layOut, quoted } from './header.js'

const maxWriteBytes = 2 ** 28

export interface WriteOptions {
  /** The file's `__metadata__`, strings only; Transformers writes, and may expect, `{ format: 'pt' }`. */
  metadata?: Readonly<Record<string, string>>
}

/**
 * Writes one file whose tensors are known in advance, in any order and piece by piece. The file appears under its
 * name only at `commit`, whole and flushed to the disk; until then its bytes are in a temporary file beside it.
 * End with `commit` or `abort`. Every method throws SafetensorsError.
 */
export class SafetensorsWriter {
  private readonly written = new Map<string, number>()

  private constructor(
    readonly path: string,
    /** Where each tensor goes, in file order. */
    readonly tensors: ReadonlyMap<string, TensorInfo>,
    private readonly temporaryPath: string,
    private readonly handle: FileHandle,
  ) {}

  /** Lays out the file and writes its header. Kinds of error: `entries`, `limit`, `access`, `io`. */
  static async create(
    path: string,
    entries: Iterable<TensorHeader>,
    options: WriteOptions = {},
  ): Promise<SafetensorsWriter> {
    const { bytes, tensors } = layOut(path, [...entries], options.metadata)
    const temporaryPath = temporaryName(path)
    let handle: FileHandle
    try {
      handle = await open(temporaryPath, 'wx')
    } catch (error) {
      throw systemError(path, error)
    }
    const writer = new SafetensorsWriter(path, tensors, temporaryPath, handle)
    await writer.orAbort(() => writeFully(handle, bytes, 0))
    return writer
  }

  /**
   * Appends bytes to a tensor. Different tensors may be written in any order and concurrently. The bytes must not
   * change until the promise resolves.
   */
  async append(name: string, bytes: Uint8Array): Promise<void> {
    const info = this.tensors.get(name)
    if (!info) throw new SafetensorsError('unknown-tensor', `${this.path}: there is no tensor ${quoted(name)} to write`)
    const start = this.written.get(name) ?? 0
    if (start + bytes.length > info.byteLength) {
      const rule = `must have ${info.byteLength} bytes, got at least ${start + bytes.length}`
      throw new SafetensorsError('entries', `${this.path}: tensor ${quoted(name)} ${rule}`)
    }
    this.written.set(name, start + bytes.length)
    try {
      await writeFully(this.handle, bytes, info.byteOffset + start)
    } catch (error) {
      throw systemError(this.path, error)
    }
  }

  /** Checks that every tensor is complete, flushes, and gives the file its name. On failure nothing is left behind. */
  async commit(): Promise<void> {
    await this.orAbort(async () => {
      const incomplete = [...this.tensors].filter(
        ([name, { byteLength }]) => (this.written.get(name) ?? 0) !== byteLength,
      )
      if (incomplete.length > 0) {
        const list = incomplete
          .slice(0, 5)
          .map(([name, { byteLength }]) => `${quoted(name)} (${this.written.get(name) ?? 0} of ${byteLength} bytes)`)
        const more = incomplete.length > 5 ? ` and ${incomplete.length - 5} more` : ''
        throw new SafetensorsError(
          'entries',
          `${this.path}: every tensor must be complete, got ${list.join(', ')}${more}`,
        )
      }
      await this.handle.sync()
      await this.handle.close()
      await rename(this.temporaryPath, this.path)
      await syncFolder(dirname(this.path))
    })
  }

  /** Removes the temporary file. Whatever was at `path` before is untouched. */
  async abort(): Promise<void> {
    await this.handle.close()
    await rm(this.temporaryPath, { force: true })
  }

  private async orAbort(work: () => Promise<void>): Promise<void> {
    try {
      await work()
    } catch (error) {
      await this.abort()
      throw systemError(this.path, error)
    }
  }
}

function temporaryName(path: string): string {
  return join(dirname(path), `.${basename(path)}.${randomBytes(6).toString('hex')}.tmp`)
}

/** Writes a small file whole or not at all: temporary file, flush, rename, flush of the folder. */
export async function writeFileAtomically(path: string, content: string | Uint8Array): Promise<void> {
  const temporaryPath = temporaryName(path)
  try {
    const handle = await open(temporaryPath, 'wx')
    try {
      await writeFully(handle, typeof content === 'string' ? Buffer.from(content) : content, 0)
      await handle.sync()
    } finally {
      await handle.close()
    }
    await rename(temporaryPath, path)
    await syncFolder(dirname(path))
  } catch (error) {
    await rm(temporaryPath, { force: true })
    throw systemError(path, error)
  }
}

async function writeFully(handle: FileHandle, bytes: Uint8Array, position: number): Promise<void> {
  for (let done = 0; done < bytes.length;) {
    const length = Math.min(bytes.length - done, maxWriteBytes)
    const { bytesWritten } = await handle.write(bytes, done, length, position + done)
    done += bytesWritten
  }
}

/** Makes a rename durable. Windows has no such operation and needs none. */
export async function syncFolder(folder: string): Promise<void> {
  if (process.platform === 'win32') return
  const handle = await open(folder, 'r')
  try {
    await handle.sync()
  } finally {
    await handle.close()
  }
}
