import { f32ToBf16, f32ToF16 } from '@mirastral/safetensors'
import { codebook } from './codebook.js'
import { QuantError } from './errors.js'
import type { FourBitTensor } from './tensor.js'
import { countElements } from './tensor.js'

/** A run of flattened elements: `start` inclusive, `end` exclusive. */
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
  for (let from = start, o = 0; from < end;) {
    const block = Math.floor(from / blockSize)
    const scale = absmax[block]
    const to = Math.min((block + 1) * blockSize, end)
    if (from % 2 === 1) result[o++] = values[codes[from >> 1] & 15] * scale
    const pairsEnd = to >> 1
    for (let i = (from + 1) >> 1; i < pairsEnd; i++, o += 2) {
      const byte = codes[i]
      result[o] = values[byte >> 4] * scale
      result[o + 1] = values[byte & 15] * scale
    }
    if (to % 2 === 1) result[o++] = values[codes[pairsEnd] >> 4] * scale
    from = to
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
  for (let from = start, o = 0; from < end;) {
    const firstBlock = Math.floor(from / blockSize)
    for (let i = 0; i < scaled.length; i++) scaled[i] = values[i & 15] * absmax[firstBlock + (i >> 4)]
    round(scaled, bits)
    for (let table = 0; table < bits.length && from < end; table += 16) {
      const to = Math.min((firstBlock + table / 16 + 1) * blockSize, end)
      if (from % 2 === 1) result[o++] = bits[table + (codes[from >> 1] & 15)]
      const pairsEnd = to >> 1
      for (let i = (from + 1) >> 1; i < pairsEnd; i++, o += 2) {
        const byte = codes[i]
        result[o] = bits[table + (byte >> 4)]
        result[o + 1] = bits[table + (byte & 15)]
      }
      if (to % 2 === 1) result[o++] = bits[table + (codes[pairsEnd] >> 4)]
      from = to
    }
  }
  return result
}

function checkRange(tensor: FourBitTensor, range: ElementRange, outLength: number | undefined): Required<ElementRange> {
  const count = countElements('dequantize', tensor.shape)
  const { start = 0, end = count } = range
  if (!(Number.isInteger(start) && Number.isInteger(end) && 0 <= start && start <= end && end <= count)) {
    throw new QuantError('usage', `dequantize: a range must lie within ${count} elements, got ${start} to ${end}`)
  }
  if (outLength !== undefined && outLength !== end - start) {
    throw new QuantError('usage', `dequantize: out must have ${end - start} elements, got ${outLength}`)
  }
  return { start, end }
}
