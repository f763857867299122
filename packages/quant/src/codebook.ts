/** The two 4-bit types of bitsandbytes. */
export type QuantType = 'nf4' | 'fp4'

/** Block sizes that bitsandbytes accepts: elements that share one absmax. */
export const BLOCK_SIZES = [32, 64, 128, 256, 512, 1024, 2048, 4096] as const

/**
 * The 16 values of NF4, by code: quantiles of a standard normal distribution with an exact zero (QLoRA,
 * arXiv:2305.14314, appendix E), the float32 numbers of bitsandbytes' `functional.get_4bit_type`.
 */
export const NF4_VALUES: readonly number[] = [
  -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334,
  -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
  0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0,
]

/** The 16 values of FP4 (sign, 2 exponent bits, 1 mantissa bit), by code, times 12: zero is there with both signs. */
const fp4Times12 = [0, 0.0625, 8, 12, 4, 6, 2, 3, 0, -0.0625, -8, -12, -4, -6, -2, -3]

/** The 16 values of FP4, by code, as float32 numbers: not in ascending order. */
export const FP4_VALUES: readonly number[] = fp4Times12.map((value) => Math.fround(value / 12))

/** How a quant type maps a normalised value, in [-1, 1], to a code and back. */
export interface Codebook {
  /** float32 [16]: the value of each code. */
  readonly values: Float32Array
  /** float32 [15], ascending: a value has rank i if it is greater than exactly i of them. A tie goes down. */
  readonly thresholds: Float32Array
  /** [16]: the code of each rank. */
  readonly codeOfRank: Uint8Array
}

/**
 * Codes, values and decision thresholds: float32 midpoints between neighbours, compared with `>`, as in bitsandbytes'
 * CPU implementation (backends/default/ops.py, `_get_4bit_quantize_bounds`).
 */
export function codebook(quantType: QuantType): Codebook {
  const values = Float32Array.from(quantType === 'nf4' ? NF4_VALUES : FP4_VALUES)
  const codeOfRank = Uint8Array.from(values.keys()).sort((a, b) => values[a] - values[b] || a - b)
  const thresholds = Float32Array.from({ length: 15 }, (_, i) =>
    Math.fround(Math.fround(values[codeOfRank[i]] + values[codeOfRank[i + 1]]) / 2),
  )
  return { values, thresholds, codeOfRank }
}

/** Number of thresholds below a normalised value. */
export function rankOf(thresholds: Float32Array, value: number): number {
  let rank = 0
  while (rank < thresholds.length && value > thresholds[rank]) rank++
  return rank
}

/**
 * What a block is multiplied by before codes are chosen: the float32 reciprocal of its absmax, which bitsandbytes
 * holds at 1e-38 or more (a float32 subnormal) so that the reciprocal is finite.
 */
export function reciprocal(absmax: number): number {
  return Math.fround(1 / Math.max(absmax, TINY_ABSMAX))
}

/** float32 nearest to 1e-38. */
export const TINY_ABSMAX = Math.fround(1e-38)
