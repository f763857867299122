import type { HostTensor, TensorData, TensorType } from '@mirastral/engine'
import { bf16, f16, f32, nf4, sizeOf } from '@mirastral/engine'
import type { FourBitTensor, Nf4Tensor } from '@mirastral/quant'
import { dequantize4bit, dequantize4bitToBits, QuantPool, readFourBitTensor } from '@mirastral/quant'
import type { Dtype, SafetensorsReader } from '@mirastral/safetensors'
import { f32ToBf16, f32ToF16, toFloat32 } from '@mirastral/safetensors'
import type { Checkpoint, StoredAs } from './checkpoint.js'
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

const denseTypes = { float32: f32, bfloat16: bf16, float16: f16 } as const

/** The elements of a stored tensor in the dtype that the engine computes with; same-dtype bytes are not copied. */
function convert(from: Dtype, bytes: Uint8Array<ArrayBuffer>, to: StorageDtype): TensorData {
  if (to === 'float32') return toFloat32(from, bytes)
  if (from === (to === 'bfloat16' ? 'BF16' : 'F16')) return new Uint16Array(bytes.buffer)
  const values = toFloat32(from, bytes)
  return to === 'bfloat16' ? f32ToBf16(values) : f32ToF16(values)
}

/** Below this many elements in all (about a second of work) threads save little, and their memory stays with the process. */
const worthThreads = 2 ** 29

/** Quantizes stored layers with all cores. Its threads and their memory are given back once every layer has had its turn. */
class LayerQuantizer {
  private readonly waiting: Set<string>
  private readonly threads: number | null
  private pool: QuantPool | null = null
  private running = 0

  constructor(
    private readonly reader: SafetensorsReader,
    keys: readonly string[],
  ) {
    this.waiting = new Set(keys)
    const elements = keys.reduce((sum, key) => sum + sizeOf(reader.tensors.get(key)?.shape ?? []), 0)
    this.threads = elements < worthThreads ? 1 : null
  }

  async quantize(key: string, blockSize: number): Promise<FourBitTensor> {
    this.pool ??= QuantPool.start(this.threads === null ? {} : { threads: this.threads })
    this.running++
    try {
      return await this.pool.quantizeStored(this.reader, key, 'nf4', { blockSize })
    } finally {
      this.running--
      this.waiting.delete(key)
      if (this.waiting.size === 0 && this.running === 0) await this.close()
    }
  }

  async close(): Promise<void> {
    const { pool } = this
    this.pool = null
    await pool?.close()
  }
}

/**
 * Reads a checkpoint's parameters as an engine takes them. Nothing is kept: memory holds what the caller holds, and a
 * weight that is quantized is never whole in full precision. 4-bit weights are given as they are stored, or expanded
 * where `quantization` is `none` (and FP4 always: the engine has no FP4).
 */
export function checkpointWeights(checkpoint: Checkpoint, options: WeightOptions = {}): Weights {
  const { quantization = 'nf4', blockSize = 64, dtype = 'float32' } = options
  const { reader, parameters, stored } = checkpoint
  const specs = new Map(parameters.map((spec) => [checkpointKey(spec), spec]))
  const plan = new Map([...specs].map(([key, spec]) => [key, planOf(spec, stored.get(key), quantization, blockSize)]))
  const toQuantize = [...plan].filter(([, { from, as }]) => from === 'dense' && as === 'nf4').map(([key]) => key)
  const quantizer = new LayerQuantizer(reader, toQuantize)
  const typeOf = (key: string, spec: ParameterSpec): TensorType => {
    const how = plan.get(key)
    return how?.as === 'nf4' ? nf4(spec.shape, how.blockSize) : denseTypes[dtype](...spec.shape)
  }
  const get = async (key: string): Promise<HostTensor> => {
    const spec = specs.get(key)
    const how = plan.get(key)
    const info = reader.tensors.get(key)
    if (!spec || !how || !info) throw internal(`the model has no parameter ${key}`)
    if (how.from === 'four-bit') {
      const tensor = await readFourBitTensor(reader, key)
      return how.as === 'nf4' ? asNf4(tensor) : { type: typeOf(key, spec), data: expand(tensor, dtype) }
    }
    if (how.as === 'nf4') return asNf4(await quantizer.quantize(key, how.blockSize))
    return { type: typeOf(key, spec), data: convert(info.dtype, await reader.read(key), dtype) }
  }
  const close = async (): Promise<void> => {
    await quantizer.close()
    await reader.close()
  }
  return { types: new Map([...specs].map(([key, spec]) => [key, typeOf(key, spec)])), get, close }
}

/** How a parameter comes from its file to the engine. */
interface Plan {
  readonly from: 'dense' | 'four-bit'
  readonly as: 'dense' | 'nf4'
  readonly blockSize: number
}

function planOf(
  { kind }: ParameterSpec,
  stored: StoredAs = { format: 'dense' },
  quantization: 'nf4' | 'none',
  blockSize: number,
): Plan {
  const quantized = quantization === 'nf4' && kind === 'linear' && stored.format !== 'fp4'
  if (stored.format === 'dense') return { from: 'dense', as: quantized ? 'nf4' : 'dense', blockSize }
  return { from: 'four-bit', as: quantized ? 'nf4' : 'dense', blockSize: stored.blockSize }
}

function asNf4(tensor: FourBitTensor): Nf4Tensor {
  if (tensor.quantType !== 'nf4') throw internal(`expected an nf4 tensor, got ${tensor.quantType}`)
  return { ...tensor, quantType: 'nf4' }
}

/** The values of a 4-bit tensor in the dtype that the engine computes with. */
function expand(tensor: FourBitTensor, dtype: StorageDtype): TensorData {
  return dtype === 'float32' ? dequantize4bit(tensor) : dequantize4bitToBits(tensor, dtype)
}
