import { closeSync, openSync, readSync } from 'node:fs'
import type { QuantType } from './codebook.js'
import { QuantError } from './errors.js'
import type { Encoder } from './quantize.js'
import { createEncoder, lengthOf } from './quantize.js'
import type { FloatSource } from './tensor.js'

/** A run of elements in a safetensors file, to be read by whoever quantizes it. */
export interface StoredRun {
  readonly path: string
  /** Of the run's first element, from the start of the file. */
  readonly byteOffset: number
  readonly dtype: 'F32' | 'F16' | 'BF16'
  readonly count: number
}

/** A run of whole blocks (the last run of a tensor may end in a short one). */
export interface QuantTask {
  readonly source: FloatSource | StoredRun
  readonly quantType: QuantType
  readonly blockSize: number
  /** For errors: what is quantized, and the index of the run's first element in it. */
  readonly who: string
  readonly first: number
}

export interface QuantTaskResult {
  readonly codes: Uint8Array<ArrayBuffer>
  readonly absmax: Float32Array<ArrayBuffer>
}

/** Does tasks one after the other, in this thread, and keeps look-up tables and the memory it reads to between them. */
export function createTaskRunner(): (task: QuantTask) => QuantTaskResult {
  const encoders = new Map<QuantType, Encoder>()
  let readBuffer = new ArrayBuffer(0)
  return ({ source, quantType, blockSize, who, first }) => {
    const encoder = encoders.get(quantType) ?? createEncoder(quantType)
    encoders.set(quantType, encoder)
    if ('path' in source && readBuffer.byteLength < source.count * 4) readBuffer = new ArrayBuffer(source.count * 4)
    const data = 'path' in source ? readRun(source, readBuffer) : source
    const count = lengthOf(data)
    const codes = new Uint8Array(Math.ceil(count / 2))
    const absmax = new Float32Array(Math.ceil(count / blockSize))
    encoder(data, blockSize, codes, absmax, who, first)
    return { codes, absmax }
  }
}

function readRun({ path, byteOffset, dtype, count }: StoredRun, buffer: ArrayBuffer): FloatSource {
  const data = dtype === 'F32' ? new Float32Array(buffer, 0, count) : new Uint16Array(buffer, 0, count)
  const file = openSync(path, 'r')
  try {
    for (let done = 0; done < data.byteLength;) {
      const bytes = readSync(file, data, done, data.byteLength - done, byteOffset + done)
      if (bytes === 0) throw new QuantError('io', `${path}: the file ended early; it was shortened while it was read`)
      done += bytes
    }
  } finally {
    closeSync(file)
  }
  if (data instanceof Float32Array) return data
  return { dtype: dtype === 'F16' ? 'f16' : 'bf16', data }
}
