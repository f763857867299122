import { f32ToBf16, f32ToF16 } from '@mirastral/safetensors'
import { codebook } from './codebook.js'
import { QuantError } from './errors.js'
import type { FourBitTensor } from './tensor.js'
import { countElements } from './tensor.js'

/** A run of flattened elements: `start` inclusive (a multiple of the block size), `end` exclusive. */
export interface ElementRange {
  start?: number
  end?: number
}

/**
 * value = codebook[code] * absmax[block] in float32. Writes to `out` if given. Equal to bitsandbytes bit for bit.
 * Throws QuantError `usage` for a range outside the tensor.
 */
export function dequantize4bit(tensor: FourBitTensor, range: ElementRange = {}, out?: Float32Array): Float32Array {
  const { start, end } = checkRange(tensor, range, out?.length)
  const { codes, absmax, blockSize } = tensor
  const { values } = codebook(tensor.quantType)
  const result = out ?? new Float32Array(end - start)
  for (let block = start, o = 0; block < end; block += blockSize) {
    const scale = absmax[block / blockSize]
    const pairsEnd = Math.min(block + blockSize, end) >> 1
    for (let i = block >> 1; i < pairsEnd; i++, o += 2) {
      const byte = codes[i]
      result[o] = values[byte >> 4] * scale
      result[o + 1] = values[byte & 15] * scale
    }
  }
  if (end % 2 === 1 && end > start) {
    result[end - 1 - start] = values[codes[end >> 1] >> 4] * absmax[Math.floor((end - 1) / blockSize)]
  }
  return result
}

/** As `dequantize4bit`, for the whole tensor. */
export function dequantizeNf4(tensor: FourBitTensor, out?: Float32Array): Float32Array {
  return dequantize4bit(tensor, {}, out)
}

/** Blocks whose values are rounded at once: 16 each, a thousand, which stay in the cache. */
const groupBlocks = 64

/**
 * The float32 value rounded once, to nearest even, to the bits of `dtype` (default: the tensor's own 16-bit dtype, or
 * bfloat16 where that is float32). A block has 16 values, so few are rounded.
 */
export function dequantize4bitToBits(
  tensor: FourBitTensor,
  dtype: 'float16' | 'bfloat16' = tensor.dtype === 'float16' ? 'float16' : 'bfloat16',
  range: ElementRange = {},
  out?: Uint16Array,
): Uint16Array {
  const { start, end } = checkRange(tensor, range, out?.length)
  const { codes, absmax, blockSize } = tensor
  const { values } = codebook(tensor.quantType)
  const result = out ?? new Uint16Array(end - start)
  const scaled = new Float32Array(groupBlocks * 16)
  const bits = new Uint16Array(groupBlocks * 16)
  const round = dtype === 'float16' ? f32ToF16 : f32ToBf16
  for (let group = start, o = 0; group < end; group += groupBlocks * blockSize) {
    for (let i = 0; i < scaled.length; i++) scaled[i] = values[i & 15] * absmax[group / blockSize + (i >> 4)]
    round(scaled, bits)
    const groupEnd = Math.min(group + groupBlocks * blockSize, end)
    for (let block = group, table = 0; block < groupEnd; block += blockSize, table += 16) {
      const pairsEnd = Math.min(block + blockSize, groupEnd) >> 1
      for (let i = block >> 1; i < pairsEnd; i++, o += 2) {
        const byte = codes[i]
        result[o] = bits[table + (byte >> 4)]
        result[o + 1] = bits[table + (byte & 15)]
      }
      if (block + blockSize >= end && end % 2 === 1) result[o] = bits[table + (codes[end >> 1] >> 4)]
    }
  }
  return result
}

function checkRange(tensor: FourBitTensor, range: ElementRange, outLength: number | undefined): Required<ElementRange> {
  const count = countElements('dequantize', tensor.shape)
  const { start = 0, end = count } = range
  if (!(start >= 0 && start <= end && end <= count && start % tensor.blockSize === 0 && Number.isInteger(end))) {
    const rule = `a range must start at a multiple of ${tensor.blockSize} and lie within ${count} elements`
    throw new QuantError('usage', `dequantize: ${rule}, got ${start} to ${end}`)
  }
  if (outLength !== undefined && outLength !== end - start) {
    throw new QuantError('usage', `dequantize: out must have ${end - start} elements, got ${outLength}`)
  }
  return { start, end }
}
