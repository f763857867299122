import type { HostTensor } from '@mirastral/engine'
import type { Weights } from '@mirastral/models'
import { dequantizeNf4 } from '@mirastral/quant'
import { bf16ToF32, f16ToF32 } from '@mirastral/safetensors'
import { LoraError } from './errors.js'

/**
 * Reads the parameters of a model as dense float32, for `InitOptions.readParameter`: a 4-bit weight as the values that it
 * stands for, which are what the model computes with.
 */
export const denseParameters =
  (weights: Pick<Weights, 'get'>) =>
  async (name: string): Promise<Float32Array> =>
    toDense(name, await weights.get(name))

function toDense(name: string, tensor: HostTensor): Float32Array {
  if ('codes' in tensor) return dequantizeNf4(tensor)
  const { type, data } = tensor
  if (data instanceof Float32Array) return data
  if (data instanceof Uint16Array) return type.dtype === 'bf16' ? bf16ToF32(data) : f16ToF32(data)
  throw new LoraError('MIRASTRAL_LORA_INIT', `internal: ${name} must hold floats, got ${type.dtype}`, { exitCode: 1 })
}
