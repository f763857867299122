import { dequantizeNf4, quantizeNf4 } from '@mirastral/quant'
import { bytesOf, f32ToBf16, f32ToF16, writeShardedSafetensors } from '@mirastral/safetensors'
import { LoraError } from './errors.js'
import type { MergeBase } from './merge-base.js'
import { mergeBias, mergeRows } from './merge-layer.js'
import type { FloatDtype, MergeRounding } from './merge-layer.js'
import { isFloat } from './merge-plan.js'
import type { MergedTensor } from './merge-plan.js'

export interface MergeWriteOptions {
  readonly rounding: MergeRounding
  readonly maxShardBytes: number | undefined
  readonly metadata: Readonly<Record<string, string>>
  readonly onTensor: ((name: string, index: number, count: number) => void) | undefined
}

/** Elements that are worked on at once: a matrix is merged some rows at a time, so that memory stays flat. */
const CHUNK_ELEMENTS = 2 ** 23

/** Writes the tensors of a merged model, one after the other, into a folder. The names of the files. */
export function writeMerged(
  base: MergeBase,
  tensors: readonly MergedTensor[],
  folder: string,
  options: MergeWriteOptions,
): Promise<string[]> {
  let begun = 0
  const entries = tensors.map((tensor) => ({
    name: tensor.name,
    dtype: tensor.dtype,
    shape: [...tensor.shape],
    data: (): AsyncIterable<Uint8Array> => {
      options.onTensor?.(tensor.name, begun++, tensors.length)
      return mergedBytes(base, tensor, options.rounding)
    },
  }))
  const { maxShardBytes, metadata } = options
  return writeShardedSafetensors(folder, entries, {
    ...(maxShardBytes === undefined ? {} : { maxShardBytes }),
    metadata: { format: 'pt', ...metadata },
  })
}

/** The bytes of one tensor of the merged model, some rows at a time. */
async function* mergedBytes(
  base: MergeBase,
  tensor: MergedTensor,
  rounding: MergeRounding,
): AsyncGenerator<Uint8Array> {
  const { name, source, shape, step, dtype } = tensor
  const rows = shape[0] ?? 1
  const width = shape.slice(1).reduce((a, b) => a * b, 1)
  const asStored = step.kind === 'copy' && dtype === base.tensors.get(source)?.dtype && !base.fourBit.has(source)
  const stride = rowsPerChunk(tensor, width)
  for (let first = 0; first < rows; first += stride) {
    const end = Math.min(first + stride, rows)
    if (asStored) {
      yield await base.readBytes(source, first, end)
      continue
    }
    const after = await mergedRows(base, tensor, [first, end, width], rounding)
    if (step.kind !== 'copy' && !allFinite(after)) {
      throw new LoraError(
        'MIRASTRAL_LORA_MERGE',
        `${name}: has values that are not finite after merging; the adapter is broken`,
      )
    }
    yield encode(after, isFloat(dtype) ? dtype : 'F32')
  }
}

/** x - x is zero for every finite x, and NaN for all others, which no sum loses. */
function allFinite(values: Float32Array): boolean {
  let sum = 0
  for (let i = 0; i < values.length; i++) sum += values[i] - values[i]
  return sum === 0
}

/** A number of rows that holds whole NF4 blocks, so that a block is rounded as it was in training. */
function rowsPerChunk({ step }: MergedTensor, width: number): number {
  const rows = Math.max(1, Math.floor(CHUNK_ELEMENTS / Math.max(width, 1)))
  const blockSize = step.kind === 'round' || step.kind === 'weight' ? (step.blockSize ?? 1) : 1
  return Math.max(blockSize, rows - (rows % blockSize))
}

async function mergedRows(
  base: MergeBase,
  { step, source, dtype }: MergedTensor,
  [first, end, width]: readonly [number, number, number],
  rounding: MergeRounding,
): Promise<Float32Array> {
  if (step.kind === 'replace') return step.data.subarray(first * width, end * width)
  const values = await base.readRows(source, first, end)
  switch (step.kind) {
    case 'copy':
      return values
    case 'round':
      return throughNf4(values, width, step.blockSize)
    case 'weight': {
      const weight = step.blockSize === null ? values : throughNf4(values, width, step.blockSize)
      return mergeRows(weight, step.adapter, first, isFloat(dtype) ? dtype : 'F32', rounding)
    }
    case 'bias':
      return mergeBias(values, step.loraBias.subarray(first, end), step.scaling)
  }
}

function throughNf4(values: Float32Array, width: number, blockSize: number): Float32Array {
  return dequantizeNf4(quantizeNf4(values, { blockSize, shape: [values.length / width, width] }))
}

function encode(data: Float32Array, dtype: FloatDtype): Uint8Array {
  if (dtype === 'F16') return bytesOf(f32ToF16(data))
  return bytesOf(dtype === 'BF16' ? f32ToBf16(data) : data)
}
