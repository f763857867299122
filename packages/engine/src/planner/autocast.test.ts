import { describe, expect, test } from 'vitest'
import { grad } from '../autodiff/grad.js'
import { ReferenceSession } from '../backends/reference/backend.js'
import { Graph } from '../ir/graph.js'
import { printProgram } from '../ir/print.js'
import { f32, i32, nf4, sizeOf } from '../ir/tensor-type.js'
import { add, mul } from '../ops/elementwise.js'
import { cachedAttention } from '../ops/cached-attention.js'
import { linearCrossEntropy } from '../ops/loss.js'
import { linear } from '../ops/matmul.js'
import { rmsNorm } from '../ops/norm.js'
import { sum } from '../ops/reduce.js'
import { TestRandom } from '../testing/index.js'
import { autocast } from './autocast.js'

function trainedLayer(): Graph {
  const g = new Graph('layer')
  const x = g.input('x', f32(6, 32))
  const a = g.state('a', f32(4, 32))
  const h = rmsNorm(x, g.constant('norm', f32(32)), { eps: 1e-5 })
  const y = add(x, add(linear(h, g.constant('w', nf4([32, 32]))), linear(linear(h, a), g.constant('b', f32(32, 4)))))
  const loss = sum(linearCrossEntropy(y, g.constant('head', f32(11, 32)), g.input('targets', i32(6))).loss)
  const gradient = g.state('gradient', f32(4, 32))
  g.update(gradient, add(gradient, grad(loss, [a])[0]))
  g.output('loss', loss)
  return g
}

describe('autocast', () => {
  test('weights become 16-bit, states and the loss stay float32, one cast per value', () => {
    const text = printProgram(autocast(trainedLayer().build(), 'bf16'))
    expect(text).toContain('constant head: bf16[11,32]')
    expect(text).toContain('constant w: nf4/64[32,32]')
    expect(text).toContain('state gradient: f32[4,32]')
    expect(text).toMatch(/output loss = %\d+/)
    const casts = text.split('\n').filter((line) => line.includes('= cast('))
    // x, the adapter a, and the gradient on its way into the float32 state.
    expect(casts).toHaveLength(3)
  })

  test('the results are those of the float32 program within the precision of bfloat16', async () => {
    const program = trainedLayer().build()
    const results = [program, autocast(program, 'bf16')].map((p) => {
      const session = new ReferenceSession()
      const random = new TestRandom('layer')
      for (const { name, value, role } of program.inputs) {
        const type = program.types[value]
        const data = Float64Array.from({ length: sizeOf(type.shape) }, () => random.normal())
        if (role !== 'input') session.bindExact(name, { dtype: 'f32', shape: type.shape }, data)
      }
      const x = Float64Array.from({ length: 6 * 32 }, (_, i) => Math.sin(i))
      return { loss: session.evaluate(p, { x, targets: Float64Array.of(1, 2, -100, 4, 5, 0) }).loss[0], session }
    })
    expect(Math.abs(results[1].loss / results[0].loss - 1)).toBeLessThan(0.02)
    const [wide, narrow] = await Promise.all(results.map(({ session }) => session.read('gradient')))
    const norm = (x: ArrayLike<number>): number => Math.hypot(...Array.from(x))
    const difference = norm(Array.from(wide.data, (v, i) => v - narrow.data[i]))
    expect(difference / norm(wide.data)).toBeLessThan(0.05)
  })

  test('a cache that is appended to becomes 16-bit', () => {
    const g = new Graph('decode')
    const [q, k, v] = ['q', 'k', 'v'].map((name) => g.input(name, f32(1, 1, 2, 8)))
    const [keyCache, valueCache] = ['keys', 'values'].map((name) => g.state(name, f32(16, 1, 2, 8)))
    const lengths = g.input('lengths', i32(1))
    g.append(keyCache, k, lengths)
    g.append(valueCache, v, lengths)
    g.output('o', cachedAttention([q, k, v], { keyCache, valueCache, lengths, scale: 1 }))
    const text = printProgram(autocast(g.build(), 'f16'))
    expect(text).toContain('state keys: f16[16,1,2,8]')
  })

  test('a program without float products is left in float32', () => {
    const g = new Graph('plain')
    const x = g.input('x', f32(3))
    g.output('y', mul(x, x))
    expect(printProgram(autocast(g.build(), 'bf16'))).toBe(printProgram(g.build()))
  })
})
