import { EngineError } from '../../errors.js'
import { byteSize, formatType, type TensorType } from '../../ir/tensor-type.js'
import { bf16Bits, f16Bits, f16Value } from '../../numerics.js'
import type { TensorData } from '../backend.js'

/** The bytes of host data as a type's elements: float32 data also stands for 16-bit floats. */
export function bytesFor(type: TensorType, data: TensorData, name: string): Uint8Array {
  const exact =
    data instanceof Float32Array && (type.dtype === 'bf16' || type.dtype === 'f16') ? narrow(type.dtype, data) : data
  if (exact.byteLength !== byteSize(type)) {
    throw new EngineError(
      `'${name}' is ${formatType(type)} (${byteSize(type)} bytes), got ${data.constructor.name} of ${data.byteLength} bytes`,
    )
  }
  return new Uint8Array(exact.buffer, exact.byteOffset, exact.byteLength)
}

function narrow(dtype: 'bf16' | 'f16', data: Float32Array): Uint16Array {
  const bits = new Uint16Array(data.length)
  const round = dtype === 'bf16' ? bf16Bits : f16Bits
  for (let i = 0; i < data.length; i++) bits[i] = round(data[i])
  return bits
}

/** The float32 with these upper bits: exact, and quick enough for all logits of a batch. */
function widen(bits: Uint16Array): Float32Array {
  const words = new Uint32Array(bits.length)
  for (let i = 0; i < bits.length; i++) words[i] = bits[i] << 16
  return new Float32Array(words.buffer)
}

/** Device bytes as the array that a run returns: 16-bit floats become float32. */
export function resultOf(type: TensorType, bytes: ArrayBuffer): TensorData {
  switch (type.dtype) {
    case 'f32':
      return new Float32Array(bytes)
    case 'bf16':
      return widen(new Uint16Array(bytes))
    case 'f16':
      return Float32Array.from(new Uint16Array(bytes), f16Value)
    case 'i32':
      return new Int32Array(bytes)
    case 'u8':
    case 'bool':
      return new Uint8Array(bytes)
    case 'nf4':
      throw new EngineError('internal: an nf4 value has no dense bytes')
  }
}

/** Device bytes as the array that a session reads: 16-bit floats keep their bits. */
export function tensorOf(type: TensorType, bytes: ArrayBuffer): TensorData {
  return type.dtype === 'bf16' || type.dtype === 'f16' ? new Uint16Array(bytes) : resultOf(type, bytes)
}
