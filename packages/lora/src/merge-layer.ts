import { bf16ToF32, f16ToF32, f32ToBf16, f32ToF16 } from '@mirastral/safetensors'
import { lowRankProduct, rowNorms } from './low-rank.js'
import type { LoraLayer } from './targets.js'

/** Element types of a weight that an adapter can be merged into. */
export type FloatDtype = 'F32' | 'F16' | 'BF16'

/**
 * How a 16-bit weight is rounded. `once`: the sum of W and the float32 update is rounded, which is what PEFT's
 * `merge_and_unload()` does. `twice`: the update is rounded before it is added, as with `safe_merge=True`.
 */
export type MergeRounding = 'once' | 'twice'

/** The adapter's values for one layer, float32. */
export interface LayerAdapter {
  readonly layer: LoraLayer
  /** `[rank, in]` */
  readonly a: Float32Array
  /** `[out, rank]` */
  readonly b: Float32Array
  /** DoRA's magnitudes, `[out]` */
  readonly magnitude?: Float32Array
}

/** The nearest values that a dtype can hold, as float32. */
function rounded(data: Float32Array, dtype: FloatDtype): Float32Array {
  if (dtype === 'F16') return f16ToF32(f32ToF16(data))
  return dtype === 'BF16' ? bf16ToF32(f32ToBf16(data)) : data
}

/**
 * Merges an adapter into rows of a weight: `W + scaling B A`, and with DoRA `m / ||W + scaling B A|| * (W + scaling B A)`
 * by rows (arXiv 2402.09353, as peft/tuners/lora/variants.py merges it). Computed in float32.
 *
 * @param weight rows `firstRow` and following of W, `[rows, in]`
 * @param dtype what the result will be stored as; with `twice` the update is rounded to it
 * @returns the merged rows, float32, not yet rounded to `dtype`
 */
export function mergeRows(
  weight: Float32Array,
  { layer, a, b, magnitude }: LayerAdapter,
  firstRow: number,
  dtype: FloatDtype,
  rounding: MergeRounding,
): Float32Array {
  const rows = weight.length / layer.inFeatures
  let update = lowRankProduct(layer, a, b, firstRow, firstRow + rows)
  // PEFT's safe merge rounds the update of plain LoRA only; DoRA's is always rounded once, at the end.
  if (rounding === 'twice' && magnitude === undefined) update = rounded(update, dtype)
  const merged = new Float32Array(weight.length)
  for (let i = 0; i < merged.length; i++) merged[i] = weight[i] + update[i]
  if (magnitude === undefined) return merged
  const norms = rowNorms(merged, rows)
  for (let row = 0; row < rows; row++) {
    const factor = Math.fround(magnitude[firstRow + row] / norms[row])
    const values = merged.subarray(row * layer.inFeatures, (row + 1) * layer.inFeatures)
    for (let j = 0; j < values.length; j++) values[j] *= factor
  }
  return merged
}

/** `bias + scaling * B.bias`, float32. */
export function mergeBias(bias: Float32Array, loraBias: Float32Array, scaling: number): Float32Array {
  return bias.map((value, i) => value + Math.fround(loraBias[i] * Math.fround(scaling)))
}
