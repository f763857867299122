import { add, f32, Graph, ortBackend } from '@mirastral/engine'
import { expect, test } from 'vitest'

test('the built package runs programs in a worker thread and hands buffers over', async () => {
  const g = new Graph('g')
  const w = g.state('w', f32(3))
  const next = add(w, g.input('x', f32(3)))
  g.update(w, next)
  g.output('y', next)
  const session = await ortBackend({ threads: 1 }).createSession()
  const data = Float32Array.of(1, 2, 3)
  await session.bind('w', { type: f32(3), data }, { transfer: true })
  expect(data.length).toBe(0)
  const run = await session.compile(g.build())
  const results = await Promise.all([
    run.run({ x: Float32Array.of(1, 1, 1) }),
    run.run({ x: Float32Array.of(1, 1, 1) }),
  ])
  expect([...results[1].y]).toEqual([3, 4, 5])
  await expect(run.run({})).rejects.toThrow("run g: input 'x' f32[3] is missing")
  await session.dispose()
})
