import type { Backend } from '@mirastral/engine'
import { f32, Graph, linear } from '@mirastral/engine'
import { performance } from 'node:perf_hooks'

const rows = 256
const width = 1024
const products = 8
const runs = 4

/**
 * The speed of float32 matrix products on a backend, in floating-point operations per second: the best of a few runs of
 * products [256, 1024] x [1024, 1024]. Takes well under a second on a CPU. For `estimate`.
 */
export async function measureMatmulRate(backend: Backend): Promise<number> {
  const g = new Graph('calibrate')
  const weight = g.constant('calibrate.weight', f32(width, width))
  let y = g.input('x', f32(rows, width))
  for (let i = 0; i < products; i++) y = linear(y, weight)
  g.output('y', y)
  const session = await backend.createSession()
  try {
    const weights = new Float32Array(width * width).fill(1 / width)
    await session.bind('calibrate.weight', { type: f32(width, width), data: weights })
    const executable = await session.compile(g.build())
    const x = new Float32Array(rows * width).fill(1)
    let best = Infinity
    for (let run = 0; run < runs; run++) {
      const start = performance.now()
      await executable.run({ x })
      best = Math.min(best, performance.now() - start)
    }
    return (products * 2 * rows * width * width) / (best / 1000)
  } finally {
    await session.dispose()
  }
}
