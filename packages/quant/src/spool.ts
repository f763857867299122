import { randomBytes } from 'node:crypto'
import type { FileHandle } from 'node:fs/promises'
import { open, rm } from 'node:fs/promises'
import { join } from 'node:path'

const pieceBytes = 2 ** 23

/** A temporary file that keeps what is too large for memory until its place in the final files is known. */
export class Spool {
  private length = 0

  private constructor(
    private readonly path: string,
    private readonly handle: FileHandle,
  ) {}

  static async create(folder: string): Promise<Spool> {
    const path = join(folder, `.spool-${randomBytes(6).toString('hex')}.tmp`)
    const handle = await open(path, 'wx+')
    // An open file needs no name: without one, nothing is left behind however the process ends.
    if (process.platform !== 'win32') await rm(path)
    return new Spool(path, handle)
  }

  /** Appends bytes; returns a function that reads them back in pieces, any number of times. */
  async append(bytes: Uint8Array): Promise<() => AsyncIterable<Uint8Array>> {
    const start = this.length
    const end = start + bytes.length
    this.length = end
    for (let done = 0; done < bytes.length;) {
      done += (await this.handle.write(bytes, done, Math.min(bytes.length - done, 2 ** 28), start + done)).bytesWritten
    }
    return () => this.pieces(start, end)
  }

  async remove(): Promise<void> {
    await this.handle.close()
    await rm(this.path, { force: true })
  }

  private async *pieces(start: number, end: number): AsyncIterable<Uint8Array> {
    const piece = Buffer.allocUnsafeSlow(Math.min(pieceBytes, end - start))
    for (let position = start; position < end;) {
      const { bytesRead } = await this.handle.read(piece, 0, Math.min(piece.length, end - position), position)
      if (bytesRead === 0) throw new Error(`internal: ${this.path} is shorter than what was written to it`)
      yield piece.subarray(0, bytesRead)
      position += bytesRead
    }
  }
}
