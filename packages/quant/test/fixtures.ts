import { fileURLToPath } from 'node:url'
import { expect } from 'vitest'
import type { SafetensorsReader } from '@mirastral/safetensors'
import type { FloatSource, FourBitTensor } from '@mirastral/quant'

export function fixture(name: string): string {
  return fileURLToPath(new URL(`../../../fixtures/quant/${name}`, import.meta.url))
}

export async function readF32(file: SafetensorsReader, name: string): Promise<Float32Array> {
  return new Float32Array((await file.read(name)).buffer)
}

/** A float tensor as a source for quantization, in its own dtype. */
export async function readSource(file: SafetensorsReader, name: string): Promise<FloatSource> {
  const { buffer } = await file.read(name)
  const dtype = file.tensors.get(name)?.dtype
  if (dtype === 'F32') return new Float32Array(buffer)
  if (dtype === 'F16' || dtype === 'BF16')
    return { dtype: dtype === 'F16' ? 'f16' : 'bf16', data: new Uint16Array(buffer) }
  throw new Error(`no float tensor ${name}`)
}

/** The bytes of a typed array, so that -0 and NaN are compared as they are stored. */
export function bytes(data: ArrayBufferView): Buffer {
  return Buffer.from(data.buffer, data.byteOffset, data.byteLength)
}

/** Whole arrays must be the same bytes; a difference names the first element. */
export function expectSame<T extends Uint8Array | Uint16Array | Float32Array>(got: T, want: T): void {
  if (bytes(got).equals(bytes(want))) return
  const index = got.findIndex((value, i) => !Object.is(value, want[i]))
  expect.fail(
    `lengths ${got.length} and ${want.length}, first difference at ${index}: ${got[index]} instead of ${want[index]}`,
  )
}

export function expectSameTensor(got: FourBitTensor, want: FourBitTensor): void {
  const empty = { codes: undefined, absmax: undefined }
  expect({ ...got, ...empty }).toEqual({ ...want, ...empty })
  expectSame(got.codes, want.codes)
  expectSame(got.absmax, want.absmax)
}
