import { f32, Graph, matmul, ortBackend } from '@mirastral/engine'

/** GFLOP/s of a float32 product of two 1024 x 1024 matrices on ONNX Runtime, the median of many: what the machine can do now. */
export async function matmulRate(threads: number, runs = 40): Promise<number> {
  const size = 1024
  const g = new Graph('matmul')
  const [a, b] = [g.constant('a', f32(size, size)), g.constant('b', f32(size, size))]
  // One element comes back: copying the product would be counted as well.
  let product = matmul(a, b)
  for (let i = 1; i < 8; i++) product = matmul(product, b)
  g.output('y', matmul(g.input('row', f32(1, size)), product))
  const session = await ortBackend({ threads }).createSession()
  const matrix = () => Float32Array.from({ length: size * size }, () => (Math.random() - 0.5) / 16)
  for (const name of ['a', 'b']) await session.bind(name, { type: f32(size, size), data: matrix() })
  const executable = await session.compile(g.build())
  const rates: number[] = []
  for (let run = 0; run < runs / 8; run++) {
    const start = performance.now()
    await executable.run({ row: new Float32Array(size) })
    rates.push((8 * 2 * size ** 3) / (performance.now() - start) / 1e6)
  }
  await session.dispose()
  return median(rates.slice(1))
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b)
  return sorted[Math.floor(sorted.length / 2)] ?? NaN
}
