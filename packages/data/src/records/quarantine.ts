import { createWriteStream } from 'node:fs'
import type { WriteStream } from 'node:fs'
import { mkdir, rename, unlink } from 'node:fs/promises'
import { dirname } from 'node:path'
import { finished } from 'node:stream/promises'
import { DataError, errorCodeOf } from '../errors.js'
import type { FileProblem } from '../read/file-problems.js'
import type { Drop } from './processed-chunk.js'

/**
 * The list of what was not used: JSON lines with the file, its hash, the number of the record, the rule, and where in the
 * record by field names; never any text. Written beside its place and moved there when it is whole.
 */
export class Quarantine {
  private readonly path: string
  private readonly stream: WriteStream
  private failure: string | undefined

  private constructor(path: string) {
    this.path = path
    this.stream = createWriteStream(`${path}.tmp`, { mode: 0o600 })
    this.stream.on('error', (error) => {
      this.failure = errorCodeOf(error)
    })
  }

  /** @throws DataError MIRASTRAL_DATA_INPUT where the folder cannot be made. */
  static async create(path: string): Promise<Quarantine> {
    await mkdir(dirname(path), { recursive: true }).catch((error: unknown) => {
      throw quarantineError(path, errorCodeOf(error))
    })
    return new Quarantine(path)
  }

  async addRecords(file: string, sha256: string, drops: readonly Drop[]): Promise<void> {
    if (drops.length > 0) await this.write(drops.map((drop) => ({ file, sha256, ...drop })))
  }

  async addFile(file: string, problem: FileProblem, detail?: string): Promise<void> {
    await this.write([{ file, problem, ...(detail === undefined ? {} : { detail }) }])
  }

  /** @throws DataError MIRASTRAL_DATA_INPUT where the disk is full or the place cannot be written to. */
  async close(): Promise<void> {
    this.stream.end()
    await finished(this.stream).catch(() => undefined)
    if (this.failure !== undefined) throw quarantineError(this.path, this.failure)
    await rename(`${this.path}.tmp`, this.path)
  }

  async discard(): Promise<void> {
    this.stream.destroy()
    await unlink(`${this.path}.tmp`).catch(() => undefined)
  }

  private async write(lines: readonly object[]): Promise<void> {
    const text = lines.map((line) => `${JSON.stringify(line)}\n`).join('')
    // Waits for the disk, so that a file of broken records does not fill the memory.
    await new Promise<void>((resolve) => this.stream.write(text, () => resolve()))
  }
}

function quarantineError(path: string, code: string): DataError {
  return new DataError('MIRASTRAL_DATA_INPUT', `data: ${path} cannot be written (${code}); choose another place`)
}
