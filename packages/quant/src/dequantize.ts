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
  const { values } = codebook(tensor.quantType)
  const scaled = new Float32Array(16)
  forEachBlock(tensor, start, end, (absmax, from, to) => {
    for (let code = 0; code < 16; code++) scaled[code] = values[code] * absmax
    expand(tensor.codes, from, to, scaled, result, from - start)
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
  const { values } = codebook(tensor.quantType)
  const scaled = new Float32Array(16)
  const bits = new Uint16Array(16)
  forEachBlock(tensor, start, end, (absmax, from, to) => {
    for (let code = 0; code < 16; code++) scaled[code] = values[code] * absmax
    if (dtype === 'float16') f32ToF16(scaled, bits)
    else f32ToBf16(scaled, bits)
    expand(tensor.codes, from, to, bits, result, from - start)
  })
  return result
}

/** Writes the values of the codes of elements `from` (even) to `to`. */
function expand<T extends Float32Array | Uint16Array>(
  codes: Uint8Array,
  from: number,
  to: number,
  valueOfCode: T,
  out: T,
  at: number,
): void {
  const pairsEnd = to >> 1
  let o = at
  for (let i = from >> 1; i < pairsEnd; i++, o += 2) {
    const byte = codes[i]
    out[o] = valueOfCode[byte >> 4]
    out[o + 1] = valueOfCode[byte & 15]
  }
  if (to % 2 === 1) out[o] = valueOfCode[codes[pairsEnd] >> 4]
}

function forEachBlock(
  { absmax, blockSize }: FourBitTensor,
  start: number,
  end: number,
  visit: (absmax: number, from: number, to: number) => void,
): void {
  for (let from = start; from < end; from += blockSize) {
    visit(absmax[from / blockSize], from, Math.min(from + blockSize, end))
  }
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
