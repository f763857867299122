import { dequantize4bit, fourBitWeights, readFourBitState, readFourBitTensor } from '@mirastral/quant'
import type { FourBitTensor } from '@mirastral/quant'
import { SafetensorsFolder, toFloat32 } from '@mirastral/safetensors'
import type { TensorInfo } from '@mirastral/safetensors'

/** A base model's weights, read some rows at a time; 4-bit ones appear as the matrices that they stand for. */
export interface MergeBase {
  readonly path: string
  readonly tensors: ReadonlyMap<string, Pick<TensorInfo, 'dtype' | 'shape'>>
  /** Weights that are stored in bitsandbytes' 4-bit layout. */
  readonly fourBit: ReadonlySet<string>
  /** The stored bytes of rows of a tensor that is not 4-bit. */
  readBytes(name: string, firstRow: number, endRow: number): Promise<Uint8Array<ArrayBuffer>>
  /** Rows as float32, dequantized where they are 4-bit. */
  readRows(name: string, firstRow: number, endRow: number): Promise<Float32Array>
  close(): Promise<void>
}

const storedDtypes = { float32: 'F32', float16: 'F16', bfloat16: 'BF16' } as const

/** Opens a model folder in full precision or in bitsandbytes' 4-bit layout. Throws SafetensorsError and QuantError. */
export async function openMergeBase(folder: string): Promise<MergeBase> {
  const reader = await SafetensorsFolder.open(folder)
  const fourBit = new Set(fourBitWeights(reader).keys())
  const tensors = new Map<string, Pick<TensorInfo, 'dtype' | 'shape'>>()
  // The parts beside a 4-bit weight are named after it.
  for (const [name, info] of reader.tensors) {
    if (![...fourBit].some((weight) => name === weight || name.startsWith(`${weight}.`))) tensors.set(name, info)
  }
  for (const name of fourBit) {
    const { dtype, shape } = await readFourBitState(reader, name)
    tensors.set(name, { dtype: storedDtypes[dtype], shape: [...shape] })
  }
  let held: { name: string; tensor: FourBitTensor } | undefined
  const rowBytes = (name: string): number => {
    const info = reader.tensors.get(name)
    return info === undefined ? 0 : info.byteLength / (info.shape[0] ?? 1)
  }
  const readBytes = (name: string, first: number, end: number): Promise<Uint8Array<ArrayBuffer>> =>
    reader.readRange(name, first * rowBytes(name), end * rowBytes(name))
  return {
    path: folder,
    tensors,
    fourBit,
    readBytes,
    async readRows(name, first, end) {
      if (!fourBit.has(name)) return toFloat32(tensors.get(name)?.dtype ?? 'F32', await readBytes(name, first, end))
      // The rows of one weight are asked for one after the other: its codes are read once.
      if (held?.name !== name) held = { name, tensor: await readFourBitTensor(reader, name) }
      const width = held.tensor.shape.slice(1).reduce((a, b) => a * b, 1)
      return dequantize4bit(held.tensor, { start: first * width, end: end * width })
    },
    close: () => reader.close(),
  }
}
