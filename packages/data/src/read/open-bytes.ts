import { createReadStream } from 'node:fs'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { createGunzip } from 'node:zlib'
import { errorCodeOf } from '../errors.js'
import { FileError } from './file-problems.js'
import type { Limits } from './limits.js'

/** Small enough that a chunk full of tiny records is no burden. */
const CHUNK_BYTES = 256 << 10
/** Below this much output no gzip file is a burden, whatever its ratio. */
const HARMLESS_BYTES = 64 << 20

export interface OpenOptions {
  encoding?: string | undefined
  limits: Pick<Limits, 'maxExpansion'>
}

/**
 * The bytes of a text file as UTF-8, gzip undone (told by its first bytes, not by the name), byte order mark removed,
 * UTF-16 (told by its byte order mark, or by the zeros of its first character) and files of a named encoding converted.
 *
 * @throws FileError unreadable, invalid-gzip, expands-too-far, or invalid-utf8 for UTF-32.
 */
export async function* openText(path: string, { encoding, limits }: OpenOptions): AsyncGenerator<Uint8Array> {
  let decoder: InstanceType<typeof TextDecoder> | undefined
  let isFirst = true
  for await (const chunk of openBytes(path, limits.maxExpansion)) {
    let bytes = chunk
    if (isFirst) {
      const found = encoding ?? utf16Of(bytes)
      if (found !== undefined) decoder = new TextDecoder(found)
      else while (bytes[0] === 0xef && bytes[1] === 0xbb && bytes[2] === 0xbf) bytes = bytes.subarray(3)
      isFirst = false
    }
    yield decoder === undefined ? bytes : Buffer.from(decoder.decode(bytes, { stream: true }))
  }
  if (decoder !== undefined) yield Buffer.from(decoder.decode())
}

function utf16Of(bytes: Uint8Array): string | undefined {
  const [a, b, c, d] = bytes
  if (c === 0 && (d === 0 || (a === 0 && b === 0))) throw new FileError('invalid-utf8', 'UTF-32')
  if ((a === 0xff && b === 0xfe) || (a > 0 && b === 0)) return 'utf-16le'
  return (a === 0xfe && b === 0xff) || (a === 0 && b > 0) ? 'utf-16be' : undefined
}

async function* openBytes(path: string, maxExpansion: number): AsyncGenerator<Uint8Array> {
  const chunks = fileChunks(path)
  const first = await chunks.next()
  if (first.done === true) return
  const whole = prepended(first.value, chunks)
  if (first.value[0] !== 0x1f || first.value[1] !== 0x8b) {
    yield* whole
    return
  }
  const gunzip = createGunzip({ chunkSize: CHUNK_BYTES })
  // Errors come out of the loop below; an event that nobody hears would end the program.
  gunzip.on('error', () => undefined)
  const feeding = pipeline(Readable.from(whole), gunzip).catch(() => undefined)
  try {
    let bytes = 0
    for await (const chunk of gunzip) {
      bytes += (chunk as Uint8Array).length
      if (bytes > Math.max(HARMLESS_BYTES, gunzip.bytesWritten * maxExpansion)) throw new FileError('expands-too-far')
      yield chunk as Uint8Array
    }
  } catch (error) {
    throw error instanceof FileError ? error : new FileError('invalid-gzip')
  } finally {
    gunzip.destroy()
    await feeding
  }
}

async function* fileChunks(path: string): AsyncGenerator<Uint8Array> {
  try {
    for await (const chunk of createReadStream(path, { highWaterMark: CHUNK_BYTES })) yield chunk as Uint8Array
  } catch (error) {
    throw new FileError('unreadable', errorCodeOf(error))
  }
}

async function* prepended(first: Uint8Array, rest: AsyncGenerator<Uint8Array>): AsyncGenerator<Uint8Array> {
  yield first
  yield* rest
}
