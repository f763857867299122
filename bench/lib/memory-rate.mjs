// @ts-check
import { f32, Graph, linear, ortBackend } from '@mirastral/engine'

const ROWS = 16384
const COLUMNS = 4096

/**
 * GB/s at which weights come from memory: the best of some float32 products of one row with a matrix of 256 MiB, which are
 * bound by nothing else.
 * @param {number} threads
 * @returns {Promise<number>}
 */
export async function memoryRate(threads) {
  const g = new Graph('memory')
  const product = linear(g.input('x', f32(1, COLUMNS)), g.constant('w', f32(ROWS, COLUMNS)))
  g.output('y', product)
  const session = await ortBackend({ threads }).createSession()
  const data = new Float32Array(ROWS * COLUMNS).fill(0.5)
  await session.bind('w', { type: f32(ROWS, COLUMNS), data }, { transfer: true })
  const executable = await session.compile(g.build(), { prepackConstants: { w: 'exact' } })
  let best = 0
  for (let run = 0; run < 12; run++) {
    const start = performance.now()
    await executable.run({ x: new Float32Array(COLUMNS) })
    best = Math.max(best, (4 * ROWS * COLUMNS) / (performance.now() - start) / 1e6)
  }
  await session.dispose()
  return best
}
