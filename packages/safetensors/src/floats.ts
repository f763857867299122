import type { Dtype } from './dtype.js'
import { SafetensorsError } from './errors.js'
import type { SafetensorsReader } from './file.js'
import { bf16ToF32, f16ToF32 } from './half.js'
import { quoted } from './header.js'

/**
 * A floating-point tensor's bytes as float32: F32, F16 and BF16 exactly, F64 rounded to nearest. F32 bytes that are
 * aligned are not copied. Throws SafetensorsError `usage` for other dtypes.
 */
export function toFloat32(dtype: Dtype, bytes: Uint8Array): Float32Array {
  if (dtype === 'F32') return new Float32Array(...aligned(bytes, 4))
  if (dtype === 'BF16') return bf16ToF32(new Uint16Array(...aligned(bytes, 2)))
  if (dtype === 'F16') return f16ToF32(new Uint16Array(...aligned(bytes, 2)))
  if (dtype === 'F64') return Float32Array.from(new Float64Array(...aligned(bytes, 8)))
  throw new SafetensorsError('usage', `toFloat32: the dtype must be F32, F16, BF16 or F64, got ${dtype}`)
}

/** Reads a whole F32, F16, BF16 or F64 tensor as float32. */
export async function readFloat32(reader: SafetensorsReader, name: string): Promise<Float32Array> {
  const bytes = await reader.read(name)
  const dtype = reader.tensors.get(name)?.dtype
  if (dtype === undefined)
    throw new SafetensorsError('unknown-tensor', `${reader.path}: there is no tensor ${quoted(name)}`)
  return toFloat32(dtype, bytes)
}

/** Where to lay a typed array: over the bytes themselves, or over a copy where they are not aligned. */
function aligned(bytes: Uint8Array, elementBytes: number): [ArrayBufferLike, number, number] {
  const { buffer, byteOffset, length } = bytes.byteOffset % elementBytes === 0 ? bytes : new Uint8Array(bytes)
  return [buffer, byteOffset, Math.floor(length / elementBytes)]
}
