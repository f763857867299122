// @ts-check
import { f32, Graph, matmul, ortBackend } from '@mirastral/engine'

const SIZE = 1024
const PRODUCTS = 8

/**
 * GFLOP/s of float32 products of 1024 x 1024 matrices on ONNX Runtime, the median of a few runs: what the machine can do now.
 * @param {number} threads
 * @returns {Promise<number>}
 */
export async function matmulRate(threads) {
  const g = new Graph('matmul')
  const b = g.constant('b', f32(SIZE, SIZE))
  let product = g.constant('a', f32(SIZE, SIZE))
  for (let i = 0; i < PRODUCTS; i++) product = matmul(product, b)
  // One row comes back: copying the product would be counted as well.
  g.output('y', matmul(g.input('row', f32(1, SIZE)), product))
  const session = await ortBackend({ threads }).createSession()
  for (const name of ['a', 'b']) {
    const data = Float32Array.from({ length: SIZE * SIZE }, (_, i) => Math.sin(i) / 16)
    await session.bind(name, { type: f32(SIZE, SIZE), data })
  }
  const executable = await session.compile(g.build())
  const rates = []
  for (let run = 0; run < 6; run++) {
    const start = performance.now()
    await executable.run({ row: new Float32Array(SIZE) })
    rates.push((PRODUCTS * 2 * SIZE ** 3) / (performance.now() - start) / 1e6)
  }
  await session.dispose()
  return median(rates.slice(1))
}

/** @param {readonly number[]} values */
export function median(values) {
  const sorted = [...values].sort((a, b) => a - b)
  return sorted[Math.floor(sorted.length / 2)] ?? NaN
}
