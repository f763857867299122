import { describe, expect, test } from 'vitest'
import { EngineError } from '../errors.js'
import { add, linear, mul, rmsNorm, scale, sum } from '../index.js'
import { Graph } from './graph.js'
import { printProgram } from './print.js'
import { f32, i32, nf4 } from './tensor-type.js'

describe('a graph', () => {
  test('prints a small program as text', () => {
    const g = new Graph('step')
    const x = g.input('x', f32(2, 64))
    const w = g.constant('w', nf4([3, 64]))
    const bias = g.state('bias', f32(3))
    const y = g.scope('layer', () => add(linear(x, w), bias))
    g.update(bias, scale(sum(y, { axes: [0] }), 0.5))
    g.output('y', y)
    expect(printProgram(g.build())).toMatchInlineSnapshot(`
      "program step {
        %0 = input x: f32[2,64]
        %1 = constant w: nf4/64[3,64]
        %2 = state bias: f32[3]
        %3 = linear(%0, %1, transposeWeight=true, alpha=1): f32[2,3]  # layer
        %4 = add(%3, %2): f32[2,3]  # layer
        %5 = sum(%4, axes=[0], keepDims=false): f32[3]
        %6 = scale(%5, factor=0.5, offset=0): f32[3]
        update bias = %6
        output y = %4
      }"
    `)
  })

  test('drops what no result needs', () => {
    const g = new Graph()
    const x = g.input('x', f32(2))
    g.input('unused', f32(9))
    mul(x, x)
    g.output('y', add(x, x))
    const program = g.build()
    expect(program.nodes.map((n) => n.op)).toEqual(['add'])
    expect(program.inputs.map((i) => i.name)).toEqual(['x'])
  })

  test('names the op, the rule and the types of a wrong call', () => {
    const g = new Graph()
    const x = g.input('x', f32(2, 3))
    expect(() => linear(x, g.constant('w', f32(4, 5)))).toThrow(
      'linear: the last axis of x must be 5, got f32[2,3], f32[4,5]',
    )
    expect(() => add(x, g.input('i', i32(2, 3)))).toThrow(
      'add: inputs must have one float or i32 dtype, got f32[2,3], i32[2,3]',
    )
    expect(() => rmsNorm(x, g.constant('n', f32(4)), { eps: 1e-5 })).toThrow(
      'rmsNorm: the weight must be [3], got f32[2,3], f32[4]',
    )
  })

  test('refuses a name declared as something else, an update of another type, and values of another graph', () => {
    const g = new Graph('g')
    const x = g.input('x', f32(2))
    expect(g.input('x', f32(2))).toBe(x)
    expect(() => g.state('x', f32(2))).toThrow("graph g: 'x' is declared as input f32[2], got state f32[2]")
    expect(() => g.update(g.state('s', f32(3)), x)).toThrow('update of s: must be f32[3] as the state, got f32[2]')
    expect(() => g.update(x, x)).toThrow(EngineError)
    expect(() => add(x, new Graph('h').input('x', f32(2)))).toThrow('add: all inputs must belong to graph g')
    expect(() => g.state('w', nf4([8, 8]))).toThrow('only a constant may be nf4')
  })

  test('refuses rows that do not fit a cache', () => {
    const g = new Graph()
    const cache = g.state('cache', f32(8, 2, 3))
    const index = g.input('index', i32(2))
    expect(() => g.append(cache, g.input('rows', f32(2, 1, 4)), index)).toThrow('append to cache: rows must be')
    expect(() => g.append(cache, g.input('good', f32(2, 1, 3)), g.input('one', i32(1)))).toThrow('index must be i32[2]')
  })
})
