import { describe, expect, test } from 'vitest'
import { Graph } from '../../ir/graph.js'
import { grad } from '../../autodiff/grad.js'
import { bf16, f32, i32, nf4 } from '../../ir/tensor-type.js'
import { add, cast, full, scale } from '../../ops/elementwise.js'
import { linearCrossEntropy } from '../../ops/loss.js'
import { sum } from '../../ops/reduce.js'
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

  test('a product whose addend comes later is not reassociated', () => {
    const g = new Graph('late')
    const x = g.input('x', bf16(4, 8))
    const y = linear(x, g.constant('w', bf16(8, 8)))
    const late = add(x, x)
    g.output('y', add(y, late))
    expect(opsOf(lowerProgram(g.build(), packed))).toEqual(['linear', 'add', 'add'])
  })
})
