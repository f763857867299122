import { createHash, randomUUID } from 'node:crypto'
import { closeSync, fstatSync, openSync, readSync, renameSync, unlinkSync, writeSync } from 'node:fs'
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { DataError, errorCodeOf } from '../errors.js'
import type { ProcessedChunk } from '../records/processed-chunk.js'
import { CHUNK_HEADER_BYTES, bodyLengthOf, decodeChunk, encodeChunk } from './chunk-codec.js'
import type { TokenWords } from './example-rows.js'
import type { StoredChunk, TokenSpool } from './token-spool.js'

/** To be raised when anything changes that decides what is in a chunk. */
const VERSION = 1
/** The tokens of more files than these are kept elsewhere: a process may only have so many files open. */
const MAX_OPEN_FILES = 200

/**
 * Processed files on disk, by everything that decides their tokens. Rows are read from there when they are needed, so that
 * memory does not grow with the data. The folder may be deleted at any time: open files stay readable until `close`, and
 * what is missing is made anew.
 */
export class TokenCache {
  private readonly folder: string
  private readonly spool: TokenSpool
  private readonly kept: number[] = []

  private constructor(folder: string, spool: TokenSpool) {
    this.folder = folder
    this.spool = spool
  }

  /**
   * @param spool takes the tokens of files beyond those that may be open.
   * @throws DataError MIRASTRAL_DATA_OPTION where the folder cannot be made.
   */
  static async create(folder: string, spool: TokenSpool): Promise<TokenCache> {
    await mkdir(folder, { recursive: true }).catch((error: unknown) => {
      throw cacheError(folder, error)
    })
    return new TokenCache(folder, spool)
  }

  /** The name under which something is kept that all of the parts (plain JSON) decide. */
  keyOf(...parts: readonly unknown[]): string {
    const text = JSON.stringify([VERSION, ...parts])
    return createHash('sha256').update(text).digest('hex')
  }

  /** The chunks that are kept under a key, or null where they are not, or not as they were written. */
  read(key: string): Iterable<StoredChunk> | null {
    let file: number
    try {
      file = openSync(this.pathOf(key), 'r')
    } catch {
      return null
    }
    if (!isWhole(file)) {
      closeSync(file)
      return null
    }
    return this.storedChunks(file)
  }

  /** Begins to keep a file under a key. */
  write(key: string): CacheWriter {
    const path = this.pathOf(key)
    try {
      const draft = `${path}.${randomUUID()}`
      const file = openSync(draft, 'wx+', 0o600)
      return new CacheWriter(path, draft, file, this.keep(file) ? null : this.spool)
    } catch (error) {
      throw cacheError(this.folder, error)
    }
  }

  /** Closes the files; rows of them can no longer be read. */
  close(): void {
    for (const file of this.kept.splice(0)) closeSync(file)
  }

  private *storedChunks(file: number): Generator<StoredChunk> {
    const isKept = this.keep(file)
    let at = 0
    for (let next = readChunk(file, at); next !== null; next = readChunk(file, at)) {
      yield isKept ? onDisk(next.chunk, file, next.end) : this.spool.keep(next.chunk)
      at = next.end
    }
    if (!isKept) closeSync(file)
  }

  private keep(file: number): boolean {
    if (this.kept.length >= MAX_OPEN_FILES) return false
    this.kept.push(file)
    return true
  }

  private pathOf(key: string): string {
    return join(this.folder, `${key}.tokens`)
  }
}

/** Writes the chunks of one file beside their place, and moves them there when all are written. */
export class CacheWriter {
  private readonly path: string
  private readonly draft: string
  private readonly file: number
  private readonly spool: TokenSpool | null
  private at = 0

  /** @param spool where rows are read from; null to read them from this file, which then stays open. */
  constructor(path: string, draft: string, file: number, spool: TokenSpool | null) {
    this.path = path
    this.draft = draft
    this.file = file
    this.spool = spool
  }

  append(chunk: ProcessedChunk): StoredChunk {
    const bytes = encodeChunk(chunk)
    try {
      for (let written = 0; written < bytes.length;) {
        written += writeSync(this.file, bytes, written, bytes.length - written, this.at + written)
      }
    } catch (error) {
      throw cacheError(this.path, error)
    }
    this.at += bytes.length
    return this.spool?.keep(chunk) ?? onDisk(chunk, this.file, this.at)
  }

  commit(): void {
    renameSync(this.draft, this.path)
    if (this.spool !== null) closeSync(this.file)
  }

  abort(): void {
    unlinkSync(this.draft)
    if (this.spool !== null) closeSync(this.file)
  }
}

/** @param end the position after the chunk, whose last column is the tokens. */
function onDisk(chunk: ProcessedChunk, file: number, end: number): StoredChunk {
  const { tokens, ...columns } = chunk
  const start = end - tokens.byteLength
  const wordBytes = tokens.BYTES_PER_ELEMENT
  const read = (offset: number, length: number): TokenWords => {
    const bytes = new Uint8Array(length * wordBytes)
    if (readSync(file, bytes, 0, bytes.length, start + offset * wordBytes) < bytes.length) {
      throw new DataError('MIRASTRAL_DATA_CHANGED', 'token cache: a file was cut off while it was in use; run again')
    }
    return wordBytes === 2 ? new Uint16Array(bytes.buffer) : new Uint32Array(bytes.buffer)
  }
  return { columns, source: { read } }
}

function readChunk(file: number, at: number): { chunk: ProcessedChunk; end: number } | null {
  const header = Buffer.alloc(CHUNK_HEADER_BYTES)
  if (readSync(file, header, 0, header.length, at) < header.length) return null
  const length = bodyLengthOf(header)
  if (length === null || at + header.length + length > fstatSync(file).size) return null
  const body = Buffer.alloc(length)
  readSync(file, body, 0, length, at + header.length)
  const chunk = decodeChunk(header, body)
  return chunk === null ? null : { chunk, end: at + header.length + length }
}

function isWhole(file: number): boolean {
  const { size } = fstatSync(file)
  let at = 0
  for (let next = readChunk(file, at); next !== null; next = readChunk(file, at)) at = next.end
  return at === size
}

function cacheError(path: string, error: unknown): DataError {
  const code = errorCodeOf(error)
  return new DataError(
    'MIRASTRAL_DATA_OPTION',
    `token cache: ${path} cannot be written (${code}); choose another cacheDir`,
  )
}
