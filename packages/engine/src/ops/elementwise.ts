import type { Graph, Value } from '../ir/graph.js'
import { broadcastShapes, f32, isFloat, sizeOf, type DType, type Shape, type TensorType } from '../ir/tensor-type.js'
import { roundToDtype } from '../numerics.js'
import { forEachBroadcast } from './broadcast.js'
import {
  arity,
  at,
  defineOp,
  emit,
  expect,
  normal,
  range,
  sameFloat,
  values,
  type OpDef,
  type VjpContext,
} from './define.js'
import { reshape } from './movement.js'
import { sum } from './reduce.js'

type NoAttrs = Record<string, never>

/** Sums a cotangent over the axes along which `shape` was broadcast. */
export function unbroadcast(dy: Value, shape: Shape): Value {
  const lead = dy.shape.length - shape.length
  const axes = dy.shape.flatMap((n, axis) => (axis < lead || (shape[axis - lead] === 1 && n !== 1) ? [axis] : []))
  const reduced = axes.length > 0 ? sum(dy, { axes, keepDims: true }) : dy
  return reduced.shape.length === shape.length ? reduced : reshape(reduced, shape)
}

type Two = readonly [Value, Value]

/** An op of two operands under NumPy broadcasting. `partials` gives the unreduced cotangents of both operands. */
function binary(
  name: string,
  fn: (a: number, b: number) => number,
  partials: (dy: Value, operands: Two, y: Value) => readonly [() => Value, () => Value],
  options: { readonly positive?: boolean } = {},
): OpDef<NoAttrs> {
  const second = (...shape: number[]) => (options.positive ? range(f32(...shape), 0.5, 2) : normal(f32(...shape)))
  return defineOp<NoAttrs>({
    name,
    infer(inputs) {
      arity(name, inputs, 2)
      const dtype = at(inputs, 0).dtype
      expect(
        inputs.every((t) => t.dtype === dtype && (isFloat(dtype) || dtype === 'i32')),
        name,
        'inputs must have one float or i32 dtype',
        inputs,
      )
      return [{ dtype, shape: broadcastShapes(name, at(inputs, 0).shape, at(inputs, 1).shape) }]
    },
    reference([a, b], _attrs, types) {
      const y = new Float64Array(sizeOf(at(types.outputs, 0).shape))
      const operands = types.inputs.map((t) => t.shape)
      forEachBroadcast(at(types.outputs, 0).shape, operands, (o, [i, j]) => (y[o] = fn(a[i], b[j])))
      return [y]
    },
    vjp({ inputs, outputs, cotangents, needs }) {
      const [dy] = cotangents
      if (!dy) return [null, null]
      const operands: Two = [at(inputs, 0), at(inputs, 1)]
      return partials(dy, operands, at(outputs, 0)).map((partial, i) =>
        needs[i] ? unbroadcast(partial(), at(operands, i).shape) : null,
      )
    },
    samples: () => [
      { title: 'equal shapes', inputs: [normal(f32(3, 5)), second(3, 5)], attrs: {} },
      { title: 'broadcast both ways', inputs: [normal(f32(4, 1, 3)), second(2, 1)], attrs: {} },
      { title: 'a scalar', inputs: [normal(f32(7)), second()], attrs: {} },
    ],
  })
}

const addDef = binary(
  'add',
  (a, b) => a + b,
  (dy) => [() => dy, () => dy],
)
const subDef = binary(
  'sub',
  (a, b) => a - b,
  (dy) => [() => dy, () => neg(dy)],
)
const mulDef = binary(
  'mul',
  (a, b) => a * b,
  (dy, [a, b]) => [() => mul(dy, b), () => mul(dy, a)],
)
const divDef = binary(
  'div',
  (a, b) => a / b,
  (dy, [, b], y) => [() => div(dy, b), () => neg(mul(dy, div(y, b)))],
  { positive: true },
)
/** Where the operands are equal the cotangent goes to the second. */
const maximumDef = binary(
  'maximum',
  (a, b) => Math.max(a, b),
  (dy, [a, b]) => {
    const zero = full(dy.graph, { dtype: dy.dtype, shape: [] }, 0)
    return [() => select(greater(a, b), dy, zero), () => select(greater(a, b), zero, dy)]
  },
)

/** An op of one operand, element by element. */
function unary(
  name: string,
  fn: (x: number) => number,
  partial: (dy: Value, x: Value, y: Value) => Value,
  domain: readonly [number, number] = [-3, 3],
): OpDef<NoAttrs> {
  return defineOp<NoAttrs>({
    name,
    infer(inputs) {
      arity(name, inputs, 1)
      return [{ dtype: sameFloat(name, inputs), shape: at(inputs, 0).shape }]
    },
    reference: ([x]) => [x.map(fn)],
    vjp: ({ inputs, outputs, cotangents: [dy] }) => [dy ? partial(dy, at(inputs, 0), at(outputs, 0)) : null],
    samples: () => [
      { title: 'a matrix', inputs: [range(f32(3, 7), ...domain)], attrs: {} },
      { title: 'a scalar', inputs: [range(f32(), ...domain)], attrs: {} },
    ],
  })
}

const negDef = unary(
  'neg',
  (x) => -x,
  (dy) => neg(dy),
)
const expDef = unary('exp', Math.exp, (dy, _x, y) => mul(dy, y))
const logDef = unary('log', Math.log, (dy, x) => div(dy, x), [0.1, 4])
const sqrtDef = unary('sqrt', Math.sqrt, (dy, _x, y) => div(scale(dy, 0.5), y), [0.1, 4])
const sigmoidDef = unary(
  'sigmoid',
  (x) => (x >= 0 ? 1 / (1 + Math.exp(-x)) : Math.exp(x) / (1 + Math.exp(x))),
  (dy, _x, y) => mul(dy, mul(y, scale(y, -1, 1))),
)
const tanhDef = unary('tanh', Math.tanh, (dy, _x, y) => mul(dy, scale(mul(y, y), -1, 1)))

/** A comparison under NumPy broadcasting; the result is bool. */
function comparison(name: string, fn: (a: number, b: number) => boolean): OpDef<NoAttrs> {
  return defineOp<NoAttrs>({
    name,
    infer(inputs) {
      arity(name, inputs, 2)
      expect(at(inputs, 0).dtype === at(inputs, 1).dtype, name, 'inputs must have one dtype', inputs)
      return [{ dtype: 'bool', shape: broadcastShapes(name, at(inputs, 0).shape, at(inputs, 1).shape) }]
    },
    reference([a, b], _attrs, types) {
      const y = new Float64Array(sizeOf(at(types.outputs, 0).shape))
      const operands = types.inputs.map((t) => t.shape)
      forEachBroadcast(at(types.outputs, 0).shape, operands, (o, [i, j]) => (y[o] = fn(a[i], b[j]) ? 1 : 0))
      return [y]
    },
    vjp: { nonDifferentiable: 'a comparison is piecewise constant' },
    samples: () => [
      {
        title: 'integers',
        inputs: [
          values({ dtype: 'i32', shape: [2, 3] }, [1, 2, 3, 4, 5, 6]),
          values({ dtype: 'i32', shape: [3] }, [4, 2, 3]),
        ],
        attrs: {},
      },
      { title: 'floats', inputs: [normal(f32(4)), normal(f32(3, 1))], attrs: {} },
    ],
  })
}

const greaterDef = comparison('greater', (a, b) => a > b)
const equalDef = comparison('equal', (a, b) => a === b)

const selectDef = defineOp<NoAttrs>({
  name: 'select',
  infer(inputs) {
    arity('select', inputs, 3)
    expect(at(inputs, 0).dtype === 'bool', 'select', 'the condition must be bool', inputs)
    const dtype = sameFloat('select', inputs.slice(1))
    const branches = broadcastShapes('select', at(inputs, 1).shape, at(inputs, 2).shape)
    return [{ dtype, shape: broadcastShapes('select', at(inputs, 0).shape, branches) }]
  },
  reference([condition, a, b], _attrs, types) {
    const y = new Float64Array(sizeOf(at(types.outputs, 0).shape))
    const operands = types.inputs.map((t) => t.shape)
    forEachBroadcast(at(types.outputs, 0).shape, operands, (o, [c, i, j]) => (y[o] = condition[c] ? a[i] : b[j]))
    return [y]
  },
  vjp({ inputs, cotangents: [dy] }: VjpContext<NoAttrs>) {
    if (!dy) return [null, null, null]
    const [condition, a, b] = [at(inputs, 0), at(inputs, 1), at(inputs, 2)]
    const zero = full(dy.graph, { dtype: dy.dtype, shape: [] }, 0)
    return [null, unbroadcast(select(condition, dy, zero), a.shape), unbroadcast(select(condition, zero, dy), b.shape)]
  },
  samples: () => [
    {
      title: 'a broadcast scalar branch',
      inputs: [values({ dtype: 'bool', shape: [2, 2] }, [1, 0, 0, 1]), normal(f32(2, 2)), normal(f32())],
      attrs: {},
    },
  ],
})

export type CastAttrs = { readonly to: DType }

const castDef = defineOp<CastAttrs>({
  name: 'cast',
  infer(inputs, { to }) {
    arity('cast', inputs, 1)
    expect(at(inputs, 0).dtype !== 'nf4' && to !== 'nf4', 'cast', 'nf4 is read by dequantize only', inputs)
    return [{ dtype: to, shape: at(inputs, 0).shape }]
  },
  reference: ([x], { to }) => [roundToDtype(x, to)],
  vjp: ({ inputs, cotangents: [dy] }) => [dy && isFloat(at(inputs, 0).dtype) ? cast(dy, at(inputs, 0).dtype) : null],
  samples: () => [
    { title: 'f32 to f32', inputs: [normal(f32(5))], attrs: { to: 'f32' } },
    { title: 'bool to f32', inputs: [values({ dtype: 'bool', shape: [3] }, [1, 0, 1])], attrs: { to: 'f32' } },
    { title: 'i32 to f32', inputs: [values({ dtype: 'i32', shape: [3] }, [-7, 0, 9])], attrs: { to: 'f32' } },
  ],
})

export type ScaleAttrs = { readonly factor: number; readonly offset: number }

const scaleDef = defineOp<ScaleAttrs>({
  name: 'scale',
  infer(inputs) {
    arity('scale', inputs, 1)
    return [{ dtype: sameFloat('scale', inputs), shape: at(inputs, 0).shape }]
  },
  reference: ([x], { factor, offset }) => [x.map((v) => v * factor + offset)],
  vjp: ({ attrs, cotangents: [dy] }) => [dy ? scale(dy, attrs.factor) : null],
  samples: () => [
    { title: 'factor and offset', inputs: [normal(f32(2, 3))], attrs: { factor: -0.25, offset: 1.5 } },
    { title: 'factor only', inputs: [normal(f32(4))], attrs: { factor: 3, offset: 0 } },
  ],
})

export type FullAttrs = { readonly value: number; readonly dtype: DType; readonly shape: readonly number[] }

const fullDef = defineOp<FullAttrs>({
  name: 'full',
  infer: (_inputs, { dtype, shape }) => [{ dtype, shape }],
  reference: (_inputs, { value, shape }) => [new Float64Array(sizeOf(shape)).fill(value)],
  vjp: () => [],
  samples: () => [{ title: 'a matrix', inputs: [], attrs: { value: 2.5, dtype: 'f32', shape: [2, 3] } }],
})

const barrierDef = defineOp<NoAttrs>({
  name: 'barrier',
  infer(inputs) {
    arity('barrier', inputs, 2)
    return [at(inputs, 0)]
  },
  reference: ([x]) => [x],
  vjp: { nonDifferentiable: 'a barrier only orders the recomputation of a segment' },
  samples: () => [{ title: 'a matrix', inputs: [normal(f32(2, 3)), normal(f32(4))], attrs: {} }],
})

const detachDef = defineOp<NoAttrs>({
  name: 'detach',
  infer(inputs) {
    arity('detach', inputs, 1)
    return [at(inputs, 0)]
  },
  reference: ([x]) => [x],
  vjp: () => [null],
  samples: () => [{ title: 'a matrix', inputs: [{ ...normal(f32(2, 3)), frozen: true }], attrs: {} }],
})

export const elementwiseOps = {
  add: addDef,
  sub: subDef,
  mul: mulDef,
  div: divDef,
  maximum: maximumDef,
  neg: negDef,
  exp: expDef,
  log: logDef,
  sqrt: sqrtDef,
  sigmoid: sigmoidDef,
  tanh: tanhDef,
  greater: greaterDef,
  equal: equalDef,
  select: selectDef,
  cast: castDef,
  scale: scaleDef,
  full: fullDef,
  barrier: barrierDef,
  detach: detachDef,
} as const

/** `a + b` under NumPy broadcasting. */
export const add = (a: Value, b: Value): Value => emit(addDef, [a, b], {})
/** `a - b` under NumPy broadcasting. */
export const sub = (a: Value, b: Value): Value => emit(subDef, [a, b], {})
/** `a * b` under NumPy broadcasting. */
export const mul = (a: Value, b: Value): Value => emit(mulDef, [a, b], {})
/** `a / b` under NumPy broadcasting. */
export const div = (a: Value, b: Value): Value => emit(divDef, [a, b], {})
/** The larger of both under NumPy broadcasting. */
export const maximum = (a: Value, b: Value): Value => emit(maximumDef, [a, b], {})
export const neg = (x: Value): Value => emit(negDef, [x], {})
export const exp = (x: Value): Value => emit(expDef, [x], {})
/** Natural logarithm. */
export const log = (x: Value): Value => emit(logDef, [x], {})
export const sqrt = (x: Value): Value => emit(sqrtDef, [x], {})
export const sigmoid = (x: Value): Value => emit(sigmoidDef, [x], {})
export const tanh = (x: Value): Value => emit(tanhDef, [x], {})
/** `x * sigmoid(x)`. */
export const silu = (x: Value): Value => mul(x, sigmoid(x))
/** `a > b`, bool, under NumPy broadcasting. */
export const greater = (a: Value, b: Value): Value => emit(greaterDef, [a, b], {})
/** `a == b`, bool, under NumPy broadcasting. */
export const equal = (a: Value, b: Value): Value => emit(equalDef, [a, b], {})
/** `condition ? a : b` element by element, under NumPy broadcasting. */
export const select = (condition: Value, a: Value, b: Value): Value => emit(selectDef, [condition, a, b], {})
/** Converts the elements, rounding to nearest even for floats and toward zero for integers. Returns `x` itself where nothing changes. */
export const cast = (x: Value, to: DType): Value => (x.dtype === to ? x : emit(castDef, [x], { to }))
/** `factor * x + offset` with constants known when the program is built. */
export const scale = (x: Value, factor: number, offset = 0): Value => emit(scaleDef, [x], { factor, offset })
/** A tensor with every element equal to `value`. */
export const full = (graph: Graph, type: TensorType, value: number): Value =>
  at(graph.apply(fullDef, [], { value, dtype: type.dtype, shape: type.shape }), 0)
/** `x` as a number that no gradient flows through. */
export const detach = (x: Value): Value => emit(detachDef, [x], {})
/** `x`, computed no earlier than `after`: keeps recomputation inside the backward pass. */
export const barrier = (x: Value, after: Value): Value => emit(barrierDef, [x, after], {})
