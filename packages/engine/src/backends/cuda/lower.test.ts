import { describe, expect, test } from 'vitest'
import { Graph } from '../../ir/graph.js'
import { grad } from '../../autodiff/grad.js'
import { bf16, f32, i32, nf4 } from '../../ir/tensor-type.js'
import { add, cast, full, mul, scale } from '../../ops/elementwise.js'
import { linearCrossEntropy } from '../../ops/loss.js'
import { sum } from '../../ops/reduce.js'
import type { Value } from '../../ir/graph.js'
import { linear, matmul } from '../../ops/matmul.js'
import { adamwStep } from '../../ops/optim.js'
import { printPlan } from '../../planner/plan.js'
import { allSamples } from '../../testing/index.js'
import { lowerProgram, type Lowered } from './lower.js'

const packed = { nf4: 'packed', multiprocessors: 100, architecture: 80 } as const

const opsOf = (lowered: Lowered): string[] => lowered.steps.map((s) => s.op)

describe('lowering', () => {
  test.each(allSamples())('$title has commands whose buffers all have a place', ({ forward, backward }) => {
    for (const program of backward ? [forward, backward] : [forward]) {
      const lowered = lowerProgram(program, packed)
      for (const id of lowered.steps.flatMap((s) => [...s.reads, ...s.writes])) {
        expect(lowered.memory.locations.has(id) || lowered.externals.has(id)).toBe(true)
      }
      expect(lowered.outputs.size).toBe(program.outputs.length)
    }
  })

  test('an adapter and a residual accumulate into the product of the base weight', () => {
    const g = new Graph('layer')
    const x = g.input('x', bf16(32, 64))
    const base = linear(x, g.constant('w', nf4([64, 64])))
    const adapter = linear(linear(x, cast(g.state('a', f32(8, 64)), 'bf16')), cast(g.state('b', f32(64, 8)), 'bf16'), {
      alpha: 2,
    })
    g.output('y', add(x, add(base, adapter)))
    const lowered = lowerProgram(g.build(), { ...packed, nf4: 'resident' })
    const products = lowered.steps.flatMap(({ command }) => (command.kind === 'gemm' ? [command] : []))
    expect(opsOf(lowered)).toEqual(['cast', 'linear', 'linear', 'linear'])
    const [first, , last] = products
    expect(first.c).toEqual(lowered.inputs.get('x')?.ref)
    expect(last.c).toEqual(first.d)
    const at = (id: number) => lowered.memory.locations.get(id)
    expect(at(last.d.buffer)).toEqual(at(first.d.buffer))
  })

  test('a gradient accumulates in its f32 state without any copy', () => {
    const g = new Graph('accumulate')
    const [dy, x] = [g.input('dy', bf16(32, 16)), g.input('x', bf16(32, 8))]
    const state = g.state('gradient', f32(16, 8))
    g.update(state, add(state, cast(matmul(dy, x, { transposeA: true }), 'f32')))
    const lowered = lowerProgram(g.build(), packed)
    expect(printPlan(lowered, lowered.memory)).toBe(
      ['arena 1536 bytes (1536 unshared)', '0 matmul  %5=gradient <- dy@0 x@1024 gradient'].join('\n'),
    )
  })

  test('an optimizer step works in place and clears the gradient last', () => {
    const g = new Graph('update')
    const [p, gradient, m, v] = ['p', 'g', 'm', 'v'].map((name) => g.state(name, f32(8)))
    const scalars = ['lr', 'b1', 'b2', 's'].map((name) => g.input(name, f32()))
    const zero = full(g, f32(8), 0)
    const [learningRate, bias1, bias2, gradScale] = scalars
    const next = adamwStep(
      { parameter: p, gradient, firstMoment: m, secondMoment: v, learningRate, bias1, bias2, gradScale },
      { beta1: 0.9, beta2: 0.99, eps: 1e-8, weightDecay: 0 },
    )
    g.update(p, next.parameter)
    g.update(m, next.firstMoment)
    g.update(v, next.secondMoment)
    g.update(gradient, zero)
    const lowered = lowerProgram(g.build(), packed)
    expect(opsOf(lowered)).toEqual(['adamwStep', 'full'])
  })

  test('states that exchange their values need one copy aside', () => {
    const g = new Graph('swap')
    const [a, b] = [g.state('a', f32(4)), g.state('b', f32(4))]
    g.update(a, b)
    g.update(b, a)
    expect(opsOf(lowerProgram(g.build(), packed))).toEqual(['update', 'update', 'update'])
  })

  test('a summed loss and the gradient of its rows share the logits', () => {
    const g = new Graph('loss')
    const h = g.input('h', bf16(32, 64))
    const { loss } = linearCrossEntropy(h, g.constant('head', bf16(100, 64)), g.input('targets', i32(32)))
    const total = sum(loss)
    g.output('loss', total)
    g.output('dh', grad(scale(total, 0.5), [h])[0])
    const { steps } = lowerProgram(g.build(), packed)
    const kernels = steps.map(({ command }) => (command.kind === 'launch' ? command.entry : command.kind))
    expect(kernels.filter((k) => k === 'gemm' || k.startsWith('crossEntropy'))).toEqual([
      'gemm',
      'crossEntropyBoth',
      'gemm',
    ])
  })

  /** Projections of one input with adapters of rank 8 and 16, and the gradients of the input and of the adapters. */
  function adapted(rows: number): Lowered {
    const g = new Graph('adapted')
    const x = g.input('x', bf16(rows, 64))
    const states = (name: string, rank: number) => [
      g.state(`${name}.a`, f32(rank, 64)),
      g.state(`${name}.b`, f32(48, rank)),
    ]
    const pairs = [states('q', 8), states('k', 16), states('v', 8)]
    const outputs = pairs.map(([a, b], i): Value => {
      const base = linear(x, g.constant(`w${i}`, nf4([48, 64])))
      return add(base, linear(linear(x, cast(a, 'bf16')), cast(b, 'bf16'), { alpha: 2 }))
    })
    const loss = sum(cast(mul(mul(outputs[0], outputs[1]), outputs[2]), 'f32'))
    g.output('loss', loss)
    if (rows > 8) grad(loss, [x, ...pairs.flat()]).forEach((value, i) => g.output(`d${i}`, value))
    else outputs.forEach((value, i) => g.output(`y${i}`, value))
    return lowerProgram(g.build(), packed)
  }

  test('adapters of one input share the product with their A, forward and for the gradient of the input', () => {
    const lowered = adapted(40)
    const shapes = lowered.steps.flatMap(({ command: c }) =>
      c.kind === 'gemm' ? [`${c.shape.m}x${c.shape.n}x${c.shape.k} ${c.shape.lda} ${c.shape.ldb} ${c.shape.ldd}`] : [],
    )
    const count = (shape: string): number => shapes.filter((s) => s === shape).length
    // One product with all A; those with B read their part of each row of 32, as do the gradients of B and of A.
    expect(count('40x32x64 64 64 32')).toBe(1)
    expect([count('40x48x8 32 8 48'), count('40x48x16 32 16 48')]).toEqual([2, 1])
    expect([count('48x8x40 48 32 8'), count('48x16x40 48 32 16')]).toEqual([2, 1])
    expect([count('40x8x48 48 8 32'), count('40x16x48 48 16 32')]).toEqual([2, 1])
    expect([count('8x64x40 32 64 64'), count('16x64x40 32 64 64')]).toEqual([2, 1])
    // One product with all A gives the gradient of the input.
    expect(count('40x64x32 32 64 64')).toBe(1)
    expect(shapes).toHaveLength(3 + 1 + 3 + 3 + 3 + 3 + 3 + 1)
  })

  test('the kernel of few rows adds the adapter to the base product', () => {
    const lowered = adapted(3)
    const entries = lowered.steps.flatMap(({ command: c }) =>
      c.kind === 'launch' && c.entry.includes('atvec') ? [c.entry] : [],
    )
    expect(entries).toEqual(['matvecDense', 'nf4Matvec', 'nf4Matvec', 'nf4Matvec'])
    expect(lowered.steps.filter(({ command }) => command.kind === 'gemm')).toEqual([])
  })

  test('a product whose addend comes later is not reassociated', () => {
    const g = new Graph('late')
    const x = g.input('x', bf16(4, 8))
    const y = linear(x, g.constant('w', bf16(8, 8)))
    const late = add(x, x)
    g.output('y', add(y, late))
    expect(opsOf(lowerProgram(g.build(), packed))).toEqual(['linear', 'add', 'add'])
  })
})
