import { dtypeBits } from './dtype.js'
import { SafetensorsError } from './errors.js'
import type { TensorHeader } from './header.js'
import { quoted } from './header.js'
import type { WriteOptions } from './writer.js'
import { SafetensorsWriter } from './writer.js'

/** The typed arrays whose memory can be a tensor's data. */
export type TypedArray =
  | Uint8Array
  | Int8Array
  | Uint16Array
  | Int16Array
  | Uint32Array
  | Int32Array
  | Float32Array
  | Float64Array
  | BigInt64Array
  | BigUint64Array

/** A tensor to be written. */
export interface TensorEntry extends TensorHeader {
  /**
   * Row-major little-endian elements: a typed array with elements of the dtype's size, or raw bytes, or a function that
   * makes the bytes in pieces when their turn comes (once per write), for tensors which should not be in memory at once.
   */
  readonly data: TypedArray | (() => AsyncIterable<Uint8Array> | Iterable<Uint8Array>)
}

/**
 * Writes a safetensors file, byte for byte as Python's writer does (tensors sorted by dtype and name), flushed and
 * renamed into place, so that `path` is whole or as it was. `data` functions are called in the file's order.
 * Throws SafetensorsError: `entries`, `limit`, `access`, `io`.
 */
export async function writeSafetensors(
  path: string,
  entries: Iterable<TensorEntry>,
  options: WriteOptions = {},
): Promise<void> {
  const byName = new Map<string, TensorEntry>()
  const list = [...entries]
  for (const entry of list) {
    checkElementSize(path, entry)
    byName.set(entry.name, entry)
  }
  const writer = await SafetensorsWriter.create(path, list, options)
  try {
    for (const name of writer.tensors.keys()) {
      const data = byName.get(name)?.data
      if (typeof data === 'function') {
        for await (const piece of data()) await writer.append(name, piece)
      } else if (data) {
        await writer.append(name, bytesOf(data))
      }
    }
  } catch (error) {
    await writer.abort()
    throw error
  }
  await writer.commit()
}

/** The memory of a typed array as bytes, not copied. */
export function bytesOf(data: TypedArray): Uint8Array {
  return new Uint8Array(data.buffer, data.byteOffset, data.byteLength)
}

function checkElementSize(path: string, { name, dtype, data }: TensorEntry): void {
  if (typeof data === 'function' || data instanceof Uint8Array || data.BYTES_PER_ELEMENT * 8 === dtypeBits(dtype))
    return
  const rule = `data must be bytes or a typed array of ${dtypeBits(dtype)}-bit elements`
  throw new SafetensorsError(
    'entries',
    `${path}: tensor ${quoted(name)} ${dtype}: ${rule}, got ${data.constructor.name}`,
  )
}
