import { createReadStream } from 'node:fs'
import { Readable } from 'node:stream'
import { createGunzip } from 'node:zlib'
import { errorCodeOf } from '../errors.js'
import { FileError } from './file-problems.js'

const CHUNK_BYTES = 1 << 20

/**
 * The bytes of a text file as UTF-8, gzip undone (told by its first bytes, not by the name), byte order mark removed,
 * UTF-16 with a byte order mark and files of a named encoding converted.
 *
 * @throws FileError unreadable or invalid-gzip.
 */
export async function* openText(path: string, encoding?: string): AsyncGenerator<Uint8Array> {
  let decoder: InstanceType<typeof TextDecoder> | undefined
  let isFirst = true
  for await (const chunk of openBytes(path)) {
    let bytes = chunk
    if (isFirst) {
      const found = encoding ?? utf16Of(bytes)
      if (found !== undefined) decoder = new TextDecoder(found)
      else if (bytes[0] === 0xef && bytes[1] === 0xbb && bytes[2] === 0xbf) bytes = bytes.subarray(3)
      isFirst = false
    }
    yield decoder === undefined ? bytes : Buffer.from(decoder.decode(bytes, { stream: true }))
  }
  if (decoder !== undefined) yield Buffer.from(decoder.decode())
}

function utf16Of(bytes: Uint8Array): string | undefined {
  if (bytes[0] === 0xff && bytes[1] === 0xfe) return 'utf-16le'
  return bytes[0] === 0xfe && bytes[1] === 0xff ? 'utf-16be' : undefined
}

async function* openBytes(path: string): AsyncGenerator<Uint8Array> {
  const chunks = fileChunks(path)
  const first = await chunks.next()
  if (first.done === true) return
  const whole = prepended(first.value, chunks)
  if (first.value[0] !== 0x1f || first.value[1] !== 0x8b) {
    yield* whole
    return
  }
  try {
    for await (const chunk of Readable.from(whole).compose(createGunzip({ chunkSize: CHUNK_BYTES }))) {
      yield chunk as Uint8Array
    }
  } catch (error) {
    throw error instanceof FileError ? error : new FileError('invalid-gzip')
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
