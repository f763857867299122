import type { FileHandle } from 'node:fs/promises'
import { open } from 'node:fs/promises'
import { SafetensorsError, systemError } from './errors.js'
import type { TensorInfo } from './header.js'
import { MAX_HEADER_BYTES, parseHeader, quoted } from './header.js'

/** Limits on untrusted files, checked before memory is allocated. */
export interface ReadLimits {
  /** Largest accepted header in bytes; default, and at most, the format's own 100,000,000. */
  maxHeaderBytes?: number
  /** Largest tensor that `read` will hold in memory, in bytes; default 4 GiB less one byte. Range reads are not affected. */
  maxTensorBytes?: number
}

/** Reading tensors by name: one file, or a folder of shards. */
export interface SafetensorsReader {
  /** Where it was read from: the path of the file or folder. */
  readonly path: string
  /** Every tensor, in the order of the header (of the index, for shards). */
  readonly tensors: ReadonlyMap<string, TensorInfo>
  readonly metadata: Readonly<Record<string, string>>
  /** The raw little-endian bytes of a tensor, in a buffer of their own (so any typed array can be laid over it). */
  read(name: string): Promise<Uint8Array<ArrayBuffer>>
  /** Bytes `start` (inclusive) to `end` (exclusive) of a tensor, in a buffer of their own. */
  readRange(name: string, start: number, end: number): Promise<Uint8Array<ArrayBuffer>>
  /** Fills `target` with the bytes of a tensor from `start` on; nothing is allocated. */
  readInto(name: string, target: Uint8Array, start?: number): Promise<void>
  /** The path of the file that holds a tensor; `byteOffset` of its info counts from that file's start. */
  pathOf(name: string): string
  close(): Promise<void>
}

const defaultMaxTensorBytes = 2 ** 32 - 1
/** One system call reads at most 2^31 bytes; larger pieces gain nothing. */
const maxReadBytes = 2 ** 28

/**
 * A safetensors file, open for reading. Only its header is read at first; tensors and ranges of them when asked for.
 * Reads may run concurrently. Every method throws SafetensorsError.
 */
export class SafetensorsFile implements SafetensorsReader {
  private constructor(
    readonly path: string,
    readonly tensors: ReadonlyMap<string, TensorInfo>,
    readonly metadata: Readonly<Record<string, string>>,
    private readonly handle: FileHandle,
    private readonly maxTensorBytes: number,
  ) {}

  /**
   * Opens `path` and checks its whole header: sizes, overlaps, gaps, file length. Kinds of error: `access`, `malformed`,
   * `limit`, `io`.
   */
  static async open(path: string, limits: ReadLimits = {}): Promise<SafetensorsFile> {
    let handle: FileHandle
    try {
      handle = await open(path, 'r')
    } catch (error) {
      throw systemError(path, error)
    }
    try {
      const { tensors, metadata } = await readHeader(path, handle, limits)
      return new SafetensorsFile(path, tensors, metadata, handle, limits.maxTensorBytes ?? defaultMaxTensorBytes)
    } catch (error) {
      await handle.close()
      throw systemError(path, error)
    }
  }

  async read(name: string): Promise<Uint8Array<ArrayBuffer>> {
    return this.readRange(name, 0, this.info(name).byteLength)
  }

  async readRange(name: string, start: number, end: number): Promise<Uint8Array<ArrayBuffer>> {
    this.checkRange(name, start, end)
    if (end - start > this.maxTensorBytes) {
      const rule = `at most ${this.maxTensorBytes} bytes may be read at once, got ${end - start}; read it in ranges`
      throw new SafetensorsError('limit', `${this.path}: tensor ${quoted(name)}: ${rule}`)
    }
    const bytes = new Uint8Array(end - start)
    await this.readInto(name, bytes, start)
    return bytes
  }

  async readInto(name: string, target: Uint8Array, start = 0): Promise<void> {
    const { byteOffset } = this.checkRange(name, start, start + target.length)
    try {
      await readFully(this.path, this.handle, target, byteOffset + start)
    } catch (error) {
      throw systemError(this.path, error)
    }
  }

  pathOf(name: string): string {
    this.info(name)
    return this.path
  }

  async close(): Promise<void> {
    await this.handle.close()
  }

  private info(name: string): TensorInfo {
    const info = this.tensors.get(name)
    if (!info) throw new SafetensorsError('unknown-tensor', `${this.path}: there is no tensor ${quoted(name)}`)
    return info
  }

  private checkRange(name: string, start: number, end: number): TensorInfo {
    const info = this.info(name)
    if (!(
      Number.isSafeInteger(start) &&
      Number.isSafeInteger(end) &&
      0 <= start &&
      start <= end &&
      end <= info.byteLength
    )) {
      const rule = `a range must lie within its ${info.byteLength} bytes, got ${start} to ${end}`
      throw new SafetensorsError('usage', `${this.path}: tensor ${quoted(name)}: ${rule}`)
    }
    return info
  }
}

async function readHeader(
  path: string,
  handle: FileHandle,
  limits: ReadLimits,
): Promise<ReturnType<typeof parseHeader>> {
  const stat = await handle.stat()
  if (!stat.isFile()) throw new SafetensorsError('access', `${path}: must be a file, got a folder or device`)
  if (stat.size < 8) {
    throw new SafetensorsError(
      'malformed',
      `${path}: a safetensors file has at least 8 bytes, got ${stat.size} (truncated)`,
    )
  }
  const prefix = new Uint8Array(8)
  await readFully(path, handle, prefix, 0)
  const headerBytes = new DataView(prefix.buffer).getBigUint64(0, true)
  const maxHeaderBytes = Math.min(limits.maxHeaderBytes ?? MAX_HEADER_BYTES, MAX_HEADER_BYTES)
  if (headerBytes > BigInt(maxHeaderBytes)) {
    const rule = `the header must have at most ${maxHeaderBytes} bytes, got ${headerBytes.toString()}`
    throw new SafetensorsError('limit', `${path}: ${rule}; the file is damaged or not a safetensors file`)
  }
  if (8 + Number(headerBytes) > stat.size) {
    const rule = `the header must have ${headerBytes.toString()} bytes, the file has ${stat.size} in all (truncated)`
    throw new SafetensorsError('malformed', `${path}: ${rule}; the file is damaged or not a safetensors file`)
  }
  const header = new Uint8Array(Number(headerBytes))
  await readFully(path, handle, header, 8)
  return parseHeader(path, header, stat.size)
}

async function readFully(path: string, handle: FileHandle, target: Uint8Array, position: number): Promise<void> {
  for (let done = 0; done < target.length;) {
    const length = Math.min(target.length - done, maxReadBytes)
    const { bytesRead } = await handle.read(target, done, length, position + done)
    if (bytesRead === 0) {
      throw new SafetensorsError(
        'malformed',
        `${path}: the file ended at byte ${position + done}; it was shortened while open`,
      )
    }
    done += bytesRead
  }
}
