import { describe, expect, test } from 'vitest'
import { ReferenceSession } from '../backends/reference/backend.js'
import { Graph, type Value } from '../ir/graph.js'
import { printProgram } from '../ir/print.js'
import { f32, i32 } from '../ir/tensor-type.js'
import { add, attention, barrier, cast, greater, linear, mul, reshape, rmsNorm, sum, swiglu, tanh } from '../index.js'
import { expectAllClose, TestRandom, tolerances } from '../testing/index.js'
import { grad } from './grad.js'

/** Two residual layers of attention and feed-forward, each a segment. */
function decoder(g: Graph): { loss: Value; weights: Value[] } {
  const segments = g.input('segments', i32(1, 5))
  let x = g.input('x', f32(1, 5, 8))
  const weights: Value[] = []
  const weight = (name: string, ...shape: number[]): Value => {
    const w = g.input(name, f32(...shape))
    weights.push(w)
    return w
  }
  for (const layer of [0, 1]) {
    x = g.segment(`layer${layer}`, () => {
      const normed = rmsNorm(x, weight(`norm${layer}`, 8), { eps: 1e-5 })
      const heads = (name: string) => reshape(linear(normed, weight(`${name}${layer}`, 8, 8)), [1, 5, 2, 4])
      const mixed = attention(heads('q'), heads('k'), heads('v'), { scale: 0.5, segments })
      const attended = add(x, reshape(mixed, [1, 5, 8]))
      return add(attended, swiglu(linear(attended, weight(`g${layer}`, 8, 8)), tanh(attended)))
    })
  }
  return { loss: sum(mul(x, x)), weights }
}

function gradients(checkpoint: boolean): Record<string, Float64Array> {
  const g = new Graph('decoder')
  const { loss, weights } = decoder(g)
  grad(loss, weights, { checkpoint }).forEach((dw, i) => g.output(`d${i}`, dw))
  g.output('loss', loss)
  const program = g.build()
  const random = new TestRandom('decoder')
  const feeds = Object.fromEntries(
    program.inputs.map((input) => {
      const { shape, dtype } = program.types[input.value]
      const draw = () => (dtype === 'i32' ? 1 : random.normal())
      return [input.name, Float64Array.from({ length: shape.reduce((a, b) => a * b, 1) }, draw)]
    }),
  )
  return new ReferenceSession().evaluate(program, feeds)
}

describe('grad', () => {
  test('with activation checkpointing gives the same gradients', () => {
    const [plain, recomputed] = [gradients(false), gradients(true)]
    expect(Object.keys(recomputed)).toEqual(Object.keys(plain))
    for (const name of Object.keys(plain)) expectAllClose(name, recomputed[name], plain[name], tolerances.exact)
  })

  test('with checkpointing, the backward pass keeps only what crosses a segment', () => {
    const g = new Graph('decoder')
    const { loss, weights } = decoder(g)
    grad(loss, weights, { checkpoint: true }).forEach((dw, i) => g.output(`d${i}`, dw))
    const { nodes } = g.build()
    const inForward = new Set(nodes.filter((n) => n.scope.startsWith('layer')).flatMap((n) => n.outputs))
    const borders = new Set(nodes.filter((n) => n.op === 'barrier').map((n) => n.inputs[0]))
    const kept = nodes
      .filter((n) => n.scope.startsWith('backward') && n.op !== 'barrier')
      .flatMap((n) => n.inputs.filter((id) => inForward.has(id)))
    // The last layer's output enters the loss; everything else that the backward pass reads was recomputed.
    const last = nodes.filter((n) => n.scope === 'layer1').at(-1)?.outputs[0]
    expect([...new Set(kept)].filter((id) => id !== last)).toEqual([])
    expect(borders.size).toBeGreaterThan(0)
  })

  test('adds the cotangents of a value that is used twice, and gives zeros where nothing depends', () => {
    const g = new Graph('twice')
    const x = g.input('x', f32(2))
    const unused = g.input('unused', f32(3))
    const loss = sum(add(mul(x, x), x))
    const [dx, dUnused] = grad(loss, [x, unused])
    g.output('dx', dx)
    g.output('dUnused', dUnused)
    const result = new ReferenceSession().evaluate(g.build(), { x: Float64Array.of(3, -2) })
    expect([...result.dx]).toEqual([7, -3])
    expect([...result.dUnused]).toEqual([0, 0, 0])
  })

  test('does not differentiate what the parameters do not reach', () => {
    const g = new Graph('frozen')
    const x = g.input('x', f32(2, 3))
    const frozen = linear(x, g.constant('frozen', f32(4, 3)))
    const w = g.state('w', f32(2, 4))
    const [dw] = grad(sum(linear(frozen, w)), [w])
    g.output('dw', dw)
    expect(printProgram(g.build()).match(/linear|matmul/g)).toEqual(['linear', 'matmul'])
  })

  test('refuses a loss that is not a scalar and an op without a derivative', () => {
    const g = new Graph('bad')
    const x = g.input('x', f32(2))
    expect(() => grad(x, [x])).toThrow('grad: the loss must be a float scalar, got f32[2]')
    expect(() => grad(sum(barrier(x, x)), [x])).toThrow('grad: barrier has no derivative: a barrier only orders')
    // A comparison is on the way, but no cotangent comes back through it.
    const masked = sum(mul(cast(greater(x, x), 'f32'), x))
    expect(() => grad(masked, [x])).not.toThrow()
  })
})
