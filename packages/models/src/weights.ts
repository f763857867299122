import type { HostTensor, TensorData, TensorType } from '@mirastral/engine'
import { bf16, f16, f32, nf4 } from '@mirastral/engine'
import type { FloatSource } from '@mirastral/quant'
import { quantizeNf4 } from '@mirastral/quant'
import type { Dtype } from '@mirastral/safetensors'
import { f32ToBf16, f32ToF16, toFloat32 } from '@mirastral/safetensors'
import type { Checkpoint } from './checkpoint.js'
import type { StorageDtype } from './config.js'
import { internal } from './errors.js'
import type { ParameterSpec } from './parameters.js'
import { checkpointKey } from './parameters.js'

/** The parameters of a model, one at a time, as an engine session takes them. */
export interface Weights {
  /** The type that every parameter has, by its checkpoint key. */
  readonly types: ReadonlyMap<string, TensorType>
  /** Reads a parameter (and quantizes it if asked). The buffers belong to the caller. */
  get(key: string): Promise<HostTensor>
  /** Closes the files. */
  close(): Promise<void>
}

export interface WeightOptions {
  /** `nf4`: linear layers in 4 bits, quantized as they are read; `none`: as stored. Default `nf4`. */
  quantization?: 'nf4' | 'none'
  /** Elements per scale of what is quantized here: 32 to 4096, a power of two; default 64. */
  blockSize?: number
  /** What is not quantized, as the engine computes with it: float32 on the CPU (the default), bfloat16 or float16 on a GPU. */
  dtype?: StorageDtype
}

function floatSource(dtype: Dtype, bytes: Uint8Array<ArrayBuffer>): FloatSource {
  if (dtype === 'F16') return { dtype: 'f16', data: new Uint16Array(bytes.buffer) }
  if (dtype === 'BF16') return { dtype: 'bf16', data: new Uint16Array(bytes.buffer) }
  return toFloat32(dtype, bytes)
}

const denseTypes = { float32: f32, bfloat16: bf16, float16: f16 } as const

/** The elements of a stored tensor in the dtype that the engine computes with; same-dtype bytes are not copied. */
function convert(from: Dtype, bytes: Uint8Array<ArrayBuffer>, to: StorageDtype): TensorData {
  if (to === 'float32') return toFloat32(from, bytes)
  if (from === (to === 'bfloat16' ? 'BF16' : 'F16')) return new Uint16Array(bytes.buffer)
  const values = toFloat32(from, bytes)
  return to === 'bfloat16' ? f32ToBf16(values) : f32ToF16(values)
}

/** Reads a checkpoint's parameters as an engine takes them. Nothing is kept: memory holds what the caller holds. */
export function checkpointWeights(checkpoint: Checkpoint, options: WeightOptions = {}): Weights {
  const { quantization = 'nf4', blockSize = 64, dtype = 'float32' } = options
  const { reader, parameters } = checkpoint
  const specs = new Map(parameters.map((spec) => [checkpointKey(spec), spec]))
  const quantized = (spec: ParameterSpec): boolean => quantization === 'nf4' && spec.kind === 'linear'
  const typeOf = (spec: ParameterSpec): TensorType =>
    quantized(spec) ? nf4(spec.shape, blockSize) : denseTypes[dtype](...spec.shape)
  const get = async (key: string): Promise<HostTensor> => {
    const spec = specs.get(key)
    const info = reader.tensors.get(key)
    if (!spec || !info) throw internal(`the model has no parameter ${key}`)
    const bytes = await reader.read(key)
    if (!quantized(spec)) return { type: typeOf(spec), data: convert(info.dtype, bytes, dtype) }
    return quantizeNf4(floatSource(info.dtype, bytes), { shape: spec.shape, blockSize, name: key })
  }
  return { types: new Map([...specs].map(([key, spec]) => [key, typeOf(spec)])), get, close: () => reader.close() }
}
