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
  const result = out ?? new Float32Array(end - start)
  forEachGroup(tensor, start, end, (valueOfCode, from, to) => {
    const { codes, blockSize } = tensor
    let o = from - start
    for (let block = from, table = 0; block < to; block += blockSize, table += 16) {
      const pairsEnd = Math.min(block + blockSize, to) >> 1
      for (let i = block >> 1; i < pairsEnd; i++, o += 2) {
        const byte = codes[i]
        result[o] = valueOfCode[table + (byte >> 4)]
        result[o + 1] = valueOfCode[table + (byte & 15)]
      }
    }
    if (to % 2 === 1) result[o] = valueOfCode[lastCode(tensor, from, to)]
  })
  return result
}

/** As `dequantize4bit`, for the whole tensor. */
export function dequantizeNf4(tensor: FourBitTensor, out?: Float32Array): Float32Array {
  return dequantize4bit(tensor, {}, out)
}

/**
 * The float32 value rounded once, to nearest even, to the bits of `dtype` (default: the tensor's own 16-bit dtype, or
 * bfloat16 where that is float32).
 */
export function dequantize4bitToBits(
  tensor: FourBitTensor,
  dtype: 'float16' | 'bfloat16' = tensor.dtype === 'float16' ? 'float16' : 'bfloat16',
  range: ElementRange = {},
  out?: Uint16Array,
): Uint16Array {
  const { start, end } = checkRange(tensor, range, out?.length)
  const result = out ?? new Uint16Array(end - start)
  const round = dtype === 'float16' ? f32ToF16 : f32ToBf16
  forEachGroup(tensor, start, end, (values, from, to) => {
    const { codes, blockSize } = tensor
    const bitsOfCode = round(values)
    let o = from - start
    for (let block = from, table = 0; block < to; block += blockSize, table += 16) {
      const pairsEnd = Math.min(block + blockSize, to) >> 1
      for (let i = block >> 1; i < pairsEnd; i++, o += 2) {
        const byte = codes[i]
        result[o] = bitsOfCode[table + (byte >> 4)]
        result[o + 1] = bitsOfCode[table + (byte & 15)]
      }
    }
    if (to % 2 === 1) result[o] = bitsOfCode[lastCode(tensor, from, to)]
  })
  return result
}

/** Blocks whose scaled codebooks are made at once: a thousand products, which stay in the cache. */
const groupBlocks = 64

/** Visits runs of blocks with the 16 scaled values of each of their blocks, float32 [blocks, 16]. */
function forEachGroup(
  { quantType, absmax, blockSize }: FourBitTensor,
  start: number,
  end: number,
  visit: (valueOfCode: Float32Array, from: number, to: number) => void,
): void {
  const { values } = codebook(quantType)
  const valueOfCode = new Float32Array(groupBlocks * 16)
  for (let from = start; from < end; from += groupBlocks * blockSize) {
    const to = Math.min(from + groupBlocks * blockSize, end)
    const first = from / blockSize
    const blocks = Math.ceil((to - from) / blockSize)
    for (let block = 0; block < blocks; block++) {
      for (let code = 0; code < 16; code++) valueOfCode[block * 16 + code] = values[code] * absmax[first + block]
    }
    visit(valueOfCode, from, to)
  }
}

/** Where the values of a group hold that of an odd last element. */
function lastCode({ codes, blockSize }: FourBitTensor, from: number, to: number): number {
  return Math.floor((to - 1 - from) / blockSize) * 16 + (codes[to >> 1] >> 4)
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
