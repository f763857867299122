import type { HostTensor, TensorType } from '@mirastral/engine'
import { f32, nf4 } from '@mirastral/engine'
import type { FloatSource } from '@mirastral/quant'
import { quantizeNf4 } from '@mirastral/quant'
import type { Dtype } from '@mirastral/safetensors'
import { toFloat32 } from '@mirastral/safetensors'
import type { Checkpoint } from './checkpoint.js'
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
  /** `nf4`: linear layers in 4 bits, quantized as they are read; `none`: as stored, in float32. Default `nf4`. */
  quantization?: 'nf4' | 'none'
  /** Elements per scale of what is quantized here: 32 to 4096, a power of two; default 64. */
  blockSize?: number
}

function floatSource(dtype: Dtype, bytes: Uint8Array<ArrayBuffer>): FloatSource {
  if (dtype === 'F16') return { dtype: 'f16', data: new Uint16Array(bytes.buffer) }
  if (dtype === 'BF16') return { dtype: 'bf16', data: new Uint16Array(bytes.buffer) }
  return toFloat32(dtype, bytes)
}

/** Reads a checkpoint's parameters as an engine takes them. Nothing is kept: memory holds what the caller holds. */
export function checkpointWeights(checkpoint: Checkpoint, options: WeightOptions = {}): Weights {
  const { quantization = 'nf4', blockSize = 64 } = options
  const { reader, parameters } = checkpoint
  const specs = new Map(parameters.map((spec) => [checkpointKey(spec), spec]))
  const quantized = (spec: ParameterSpec): boolean => quantization === 'nf4' && spec.kind === 'linear'
  const types = new Map(
    [...specs].map(([key, spec]) => [key, quantized(spec) ? nf4(spec.shape, blockSize) : f32(...spec.shape)]),
  )
  const get = async (key: string): Promise<HostTensor> => {
    const spec = specs.get(key)
    const info = reader.tensors.get(key)
    if (!spec || !info) throw internal(`the model has no parameter ${key}`)
    const bytes = await reader.read(key)
    if (!quantized(spec)) return { type: f32(...spec.shape), data: toFloat32(info.dtype, bytes) }
    return quantizeNf4(floatSource(info.dtype, bytes), { shape: spec.shape, blockSize, name: key })
  }
  return { types, get, close: () => reader.close() }
}
