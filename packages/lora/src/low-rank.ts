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
  const scaling = Math.fround(layer.scaling)
  const result = new Float32Array((endRow - firstRow) * inFeatures)
  // Rows of A beyond the rank are zero, so that four can be taken at a time.
  const padded = new Float64Array(Math.ceil(rank / 4) * 4 * inFeatures)
  padded.set(a)
  const rowsOfA = Array.from({ length: padded.length / inFeatures }, (_, k) => {
    return padded.subarray(k * inFeatures, (k + 1) * inFeatures)
  })
  const sums = new Float64Array(inFeatures)
  for (let i = firstRow; i < endRow; i++) {
    sums.fill(0)
    const factor = (k: number): number => (k < rank ? b[i * rank + k] : 0)
    for (let k = 0; k < rank; k += 4) {
      const factors = [factor(k), factor(k + 1), factor(k + 2), factor(k + 3)] as const
      addRows(sums, factors, [rowsOfA[k], rowsOfA[k + 1], rowsOfA[k + 2], rowsOfA[k + 3]])
    }
    const target = (i - firstRow) * inFeatures
    for (let j = 0; j < inFeatures; j++) result[target + j] = Math.fround(sums[j]) * scaling
  }
  return result
}

type Four<T> = readonly [T, T, T, T]

/** Adds four scaled rows at once: the sums are read and written a quarter as often. */
function addRows(sums: Float64Array, [f0, f1, f2, f3]: Four<number>, [a0, a1, a2, a3]: Four<Float64Array>): void {
  for (let j = 0; j < sums.length; j++) sums[j] += f0 * a0[j] + f1 * a1[j] + f2 * a2[j] + f3 * a3[j]
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
