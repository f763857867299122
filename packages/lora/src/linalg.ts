import type { Random } from './random.js'

/** Vectors of one length, one per row, in float64. */
export interface Rows {
  readonly count: number
  readonly length: number
  readonly data: Float64Array
}

/** The leading part of a singular value decomposition: `W ~ sum over k of s[k] * u[k] v[k]^T`. */
export interface TopSvd {
  /** Left singular vectors, `[rank, out]`. */
  readonly u: Rows
  readonly s: Float64Array
  /** Right singular vectors, `[rank, in]`. */
  readonly v: Rows
}

/** A dense weight, `[out, in]` row-major. */
export interface DenseWeight {
  readonly out: number
  readonly in: number
  readonly data: Float32Array
}

function rows(count: number, length: number): Rows {
  return { count, length, data: new Float64Array(count * length) }
}

function row(x: Rows, i: number): Float64Array {
  return x.data.subarray(i * x.length, (i + 1) * x.length)
}

function dot(a: ArrayLike<number>, b: ArrayLike<number>): number {
  let sum = 0
  for (let i = 0; i < a.length; i++) sum += a[i] * b[i]
  return sum
}

function addScaled(target: Float64Array, factor: number, source: ArrayLike<number>): void {
  for (let i = 0; i < target.length; i++) target[i] = target[i] + factor * source[i]
}

/** `W v` for every row v. */
function timesWeight(w: DenseWeight, v: Rows): Rows {
  const result = rows(v.count, w.out)
  for (let i = 0; i < w.out; i++) {
    const weightRow = w.data.subarray(i * w.in, (i + 1) * w.in)
    for (let k = 0; k < v.count; k++) result.data[k * w.out + i] = dot(weightRow, row(v, k))
  }
  return result
}

/** `W^T u` for every row u. */
function timesTransposed(w: DenseWeight, u: Rows): Rows {
  const result = rows(u.count, w.in)
  for (let i = 0; i < w.out; i++) {
    const weightRow = w.data.subarray(i * w.in, (i + 1) * w.in)
    for (let k = 0; k < u.count; k++) addScaled(row(result, k), u.data[k * w.out + i], weightRow)
  }
  return result
}

/**
 * Makes the rows orthonormal in place, keeping the span of each leading group: Gram and Schmidt, twice over, which is
 * enough for working precision (Giraud et al. 2005). A row that depends on those before it becomes zero.
 */
export function orthonormalize(x: Rows): Rows {
  for (let k = 0; k < x.count; k++) {
    const current = row(x, k)
    const before = Math.sqrt(dot(current, current))
    for (let pass = 0; pass < 2; pass++) {
      for (let j = 0; j < k; j++) addScaled(current, -dot(row(x, j), current), row(x, j))
    }
    const norm = Math.sqrt(dot(current, current))
    const factor = norm > before * 1e-12 ? 1 / norm : 0
    for (let i = 0; i < current.length; i++) current[i] = current[i] * factor
  }
  return x
}

/** Turns rows p and q of `x` so that they are orthogonal, and the same rows of `turns` with them; false if they were. */
function jacobiTurn(x: Rows, turns: Rows, p: number, q: number): boolean {
  const a = row(x, p)
  const b = row(x, q)
  const alpha = dot(a, a)
  const beta = dot(b, b)
  const gamma = dot(a, b)
  if (gamma === 0 || Math.abs(gamma) <= 1e-15 * Math.sqrt(alpha * beta)) return false
  const zeta = (beta - alpha) / (2 * gamma)
  const t = (zeta >= 0 ? 1 : -1) / (Math.abs(zeta) + Math.sqrt(1 + zeta * zeta))
  const c = 1 / Math.sqrt(1 + t * t)
  const s = c * t
  for (const [u, v] of [
    [a, b],
    [row(turns, p), row(turns, q)],
  ] as const) {
    for (let i = 0; i < u.length; i++) {
      const left = u[i]
      const right = v[i]
      u[i] = c * left - s * right
      v[i] = s * left + c * right
    }
  }
  return true
}

/**
 * Singular value decomposition of a matrix with few rows, by one-sided Jacobi turns (Hestenes 1958; Golub and Van Loan,
 * section 8.6.3). Returns the `rank` largest; `u` belongs to the rows, `v` to the columns.
 */
function jacobiSvd(matrix: Rows, rank: number): TopSvd {
  const x = { ...matrix, data: matrix.data.slice() }
  const turns = rows(x.count, x.count)
  for (let i = 0; i < x.count; i++) turns.data[i * x.count + i] = 1
  for (let sweep = 0, turned = true; turned && sweep < 60; sweep++) {
    turned = false
    for (let p = 0; p < x.count - 1; p++) {
      for (let q = p + 1; q < x.count; q++) turned = jacobiTurn(x, turns, p, q) || turned
    }
  }
  const norms = Array.from({ length: x.count }, (_, i) => Math.sqrt(dot(row(x, i), row(x, i))))
  const order = norms.map((_, i) => i).sort((a, b) => norms[b] - norms[a])
  const result = { u: rows(rank, x.count), s: new Float64Array(rank), v: rows(rank, x.length) }
  order.slice(0, rank).forEach((from, to) => {
    const norm = norms[from]
    result.s[to] = norm
    row(result.u, to).set(row(turns, from))
    if (norm > 0) addScaled(row(result.v, to), 1 / norm, row(x, from))
  })
  return result
}

/** Up to this many rows or columns the decomposition is exact; beyond, a sweep of Jacobi turns takes too long. */
const EXACT_LIMIT = 192

/** More directions than asked for, so that the last ones wanted converge quickly (Halko, Martinsson and Tropp 2011). */
const OVERSAMPLING = 8

/**
 * The `rank` largest singular values of a weight and their vectors: exact for small weights, otherwise by randomized
 * subspace iteration (Halko, Martinsson and Tropp 2011, algorithm 4.4).
 *
 * @param iterations passes over the weight beyond the first; each costs about `4 * out * in * (rank + 8)` flops
 */
export function topSvd(w: DenseWeight, rank: number, random: Random, iterations: number): TopSvd {
  if (Math.min(w.out, w.in) <= EXACT_LIMIT) return exactSvd(w, rank)
  const block = rows(Math.min(rank + OVERSAMPLING, w.out, w.in), w.in)
  for (let i = 0; i < block.data.length; i++) block.data[i] = random.normal()
  let q = orthonormalize(timesWeight(w, block))
  for (let i = 0; i < iterations; i++) q = orthonormalize(timesWeight(w, orthonormalize(timesTransposed(w, q))))
  const small = jacobiSvd(timesTransposed(w, q), rank)
  const u = rows(rank, w.out)
  for (let k = 0; k < rank; k++) {
    for (let j = 0; j < q.count; j++) addScaled(row(u, k), small.u.data[k * q.count + j], row(q, j))
  }
  return { u, s: small.s, v: small.v }
}

function exactSvd(w: DenseWeight, rank: number): TopSvd {
  if (w.out <= w.in) return jacobiSvd({ count: w.out, length: w.in, data: Float64Array.from(w.data) }, rank)
  const transposed = rows(w.in, w.out)
  for (let i = 0; i < w.out; i++) {
    for (let j = 0; j < w.in; j++) transposed.data[j * w.out + i] = w.data[i * w.in + j]
  }
  const { u, s, v } = jacobiSvd(transposed, rank)
  return { u: v, s, v: u }
}

/** The first `rank` columns of Q in `W = Q R`, as rows `[rank, out]`, and the first `rank` rows of R, `[rank, in]`. */
export function topQr(w: DenseWeight, rank: number): { q: Rows; r: Rows } {
  const q = rows(rank, w.out)
  for (let k = 0; k < rank; k++) {
    for (let i = 0; i < w.out; i++) q.data[k * w.out + i] = w.data[i * w.in + k]
  }
  orthonormalize(q)
  return { q, r: timesTransposed(w, q) }
}

/** A square matrix with orthonormal rows, from random normal numbers. */
export function randomOrthogonal(size: number, random: Random): Rows {
  const x = rows(size, size)
  for (let i = 0; i < x.data.length; i++) x.data[i] = random.normal()
  return orthonormalize(x)
}
