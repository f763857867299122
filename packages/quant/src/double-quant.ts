import { DYNAMIC_MAP } from './dynamic-map.js'
import { QuantError } from './errors.js'
import { torchMean } from './torch-mean.js'

/** Elements of absmax that share one nested absmax: the only size that bitsandbytes' double quantization has. */
export const NESTED_BLOCK_SIZE = 256

/** A float32 absmax array in 8 bits per entry: `map[codes[i]] * absmax[i / 256] + offset`. */
export interface NestedAbsmax {
  /** uint8 [blocks] */
  readonly codes: Uint8Array
  /** float32 [ceil(blocks / 256)] */
  readonly absmax: Float32Array
  /** A float32 number: the mean of what was quantized. */
  readonly offset: number
  /** float32 [256], ascending. */
  readonly map: Float32Array
}

export interface NestOptions {
  /** PyTorch's thread count when its bits are to be met for 32768 blocks and more; default 1. See `torchMean`. */
  torchThreads?: number
  /** Of the tensor, for errors. */
  name?: string
}

/** Cells of [-1, 1] in which the native library looks a code up. */
const cells = 65536

/**
 * Double quantization, equal to bitsandbytes' native CPU library bit for bit (csrc/cpu_ops.cpp, `quantize_cpu`): the
 * mean is subtracted, and blocks of 256 deviations are normalised by their largest magnitude and rounded by a table of
 * 65536 equal cells. Near zero that is coarser than the map: 0 becomes code 131 (2.1e-5), not 127. CUDA rounds to the
 * nearest entry instead; such a file reads here all the same.
 * Throws QuantError `non-finite` where the mean overflows.
 */
export function nestAbsmax(absmax: Float32Array, options: NestOptions = {}): NestedAbsmax {
  const offset = absmax.length === 0 ? 0 : torchMean(absmax, options.torchThreads)
  if (!Number.isFinite(offset)) {
    const who = options.name === undefined ? 'nestAbsmax' : `nestAbsmax ${options.name}`
    throw new QuantError(
      'non-finite',
      `${who}: the mean of absmax must be finite, got ${offset}; do without double quantization`,
    )
  }
  const map = Float32Array.from(DYNAMIC_MAP)
  const codeOfCell = cellTable(map)
  const deviations = new Float32Array(absmax.length)
  for (let i = 0; i < absmax.length; i++) deviations[i] = absmax[i] - offset
  const codes = new Uint8Array(absmax.length)
  const nested = new Float32Array(Math.ceil(absmax.length / NESTED_BLOCK_SIZE))
  for (let block = 0; block < nested.length; block++) {
    const start = block * NESTED_BLOCK_SIZE
    const end = Math.min(start + NESTED_BLOCK_SIZE, absmax.length)
    let max = 0
    for (let i = start; i < end; i++) max = Math.max(max, Math.abs(deviations[i]))
    nested[block] = max
    // All equal: the codes stay 0, which times 0 is the mean.
    if (max === 0) continue
    const scale = Math.fround(1 / max)
    for (let i = start; i < end; i++) codes[i] = codeOfCell[cellOf(deviations[i], scale)]
  }
  return { codes, absmax: nested, offset, map }
}

/** absmax as float32: a product and a sum, each rounded, as bitsandbytes computes it. Writes to `out` if given. */
export function unnestAbsmax(nested: NestedAbsmax, out = new Float32Array(nested.codes.length)): Float32Array {
  const { codes, absmax, offset, map } = nested
  for (let i = 0; i < codes.length; i++) out[i] = Math.fround(map[codes[i]] * absmax[i >>> 8]) + offset
  return out
}

/**
 * The cell of a value; every operation is rounded to float32. Where the scale is infinite, 0 becomes NaN and cell 0.
 */
function cellOf(value: number, scale: number): number {
  const normalised = Math.min(Math.max(Math.fround(value * scale), -1), 1)
  const position = Math.fround(Math.fround(Math.fround(normalised + 1) * 0.5) * (cells - 1))
  return Math.fround(position + 0.5) | 0
}

/** [65536]: the code nearest to the middle of each cell; a tie goes down. */
function cellTable(map: Float32Array): Uint8Array {
  const table = new Uint8Array(cells)
  let code = 0
  for (let cell = 0; cell < cells; cell++) {
    const value = Math.fround(Math.fround((2 * cell) / (cells - 1)) - 1)
    while (code < 255 && Math.fround(0.5 * Math.fround(map[code] + map[code + 1])) < value) code++
    table[cell] = code
  }
  return table
}
