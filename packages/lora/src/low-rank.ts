import type { LoraLayer } from './targets.js'

/**
 * `scaling * B A`, `[out, in]`, as PEFT computes it in float32: the product first, then the scale.
 *
 * @param a `[rank, in]`
 * @param b `[out, rank]`
 * @param firstRow,endRow only these rows of the product
 */
export function lowRankProduct(
  layer: Pick<LoraLayer, 'inFeatures' | 'outFeatures' | 'rank' | 'scaling'>,
  a: Float32Array,
  b: Float32Array,
  firstRow = 0,
  endRow = layer.outFeatures,
): Float32Array {
  const { inFeatures, rank } = layer
  const factorOfAll = Math.fround(layer.scaling)
  const result = new Float32Array((endRow - firstRow) * inFeatures)
  const sums = new Float64Array(inFeatures)
  for (let i = firstRow; i < endRow; i++) {
    sums.fill(0)
    for (let k = 0; k < rank; k++) {
      const factor = b[i * rank + k]
      if (factor === 0) continue
      const offset = k * inFeatures
      for (let j = 0; j < inFeatures; j++) sums[j] += factor * a[offset + j]
    }
    const target = (i - firstRow) * inFeatures
    for (let j = 0; j < inFeatures; j++) result[target + j] = Math.fround(sums[j]) * factorOfAll
  }
  return result
}

/** Euclidean norm of every row of a `[rows, n]` matrix, summed in float64. */
export function rowNorms(matrix: Float32Array, rows: number): Float32Array {
  const width = matrix.length / rows
  return Float32Array.from({ length: rows }, (_, i) => {
    let sum = 0
    for (let j = i * width; j < (i + 1) * width; j++) sum += matrix[j] * matrix[j]
    return Math.sqrt(sum)
  })
}
