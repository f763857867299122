import type { Value } from '../ir/graph.js'
import { f32, sizeOf, stridesOf, type Shape } from '../ir/tensor-type.js'
import { normalizeAxis } from './broadcast.js'
import {
  arity,
  at,
  defineOp,
  emit,
  expect,
  normal,
  sameFloat,
  type OpDef,
  type Sample,
  type VjpContext,
} from './define.js'
import { cast, div, equal, mul, scale } from './elementwise.js'
import { broadcastTo, reshape } from './movement.js'

export type ReduceAttrs = { readonly axes: readonly number[]; readonly keepDims: boolean }

function reducedShape(shape: Shape, { axes, keepDims }: ReduceAttrs): number[] {
  const drop = new Set(axes)
  return shape.flatMap((n, axis) => (drop.has(axis) ? (keepDims ? [1] : []) : [n]))
}

/** The input's shape with the reduced axes kept at extent 1. */
const keptShape = (shape: Shape, attrs: ReduceAttrs): number[] => reducedShape(shape, { ...attrs, keepDims: true })

function reduceOp(
  name: string,
  initial: number,
  combine: (accumulator: number, x: number) => number,
  vjp: (ctx: VjpContext<ReduceAttrs>) => readonly (Value | null)[],
): OpDef<ReduceAttrs> {
  const sample = (title: string, shape: number[], axes: number[], keepDims: boolean): Sample<ReduceAttrs> => ({
    title,
    inputs: [normal(f32(...shape))],
    attrs: { axes, keepDims },
  })
  return defineOp<ReduceAttrs>({
    name,
    infer(inputs, attrs) {
      arity(name, inputs, 1)
      const { shape } = at(inputs, 0)
      expect(
        attrs.axes.length > 0 && attrs.axes.every((a) => a >= 0 && a < shape.length),
        name,
        `axes [${attrs.axes.join(',')}] must name axes of the input`,
        inputs,
      )
      return [{ dtype: sameFloat(name, inputs), shape: reducedShape(shape, attrs) }]
    },
    reference([x], attrs, types) {
      const { shape } = at(types.inputs, 0)
      const kept = keptShape(shape, attrs)
      const strides = stridesOf(kept).map((s, axis) => (kept[axis] === 1 ? 0 : s))
      const own = stridesOf(shape)
      const y = new Float64Array(sizeOf(kept)).fill(initial)
      for (let i = 0; i < x.length; i++) {
        let out = 0
        for (let axis = 0; axis < shape.length; axis++) {
          out += (Math.floor(i / own[axis]) % shape[axis]) * strides[axis]
        }
        y[out] = combine(y[out], x[i])
      }
      return [y]
    },
    vjp,
    samples: () => [
      sample('the last axis', [3, 5], [1], false),
      sample('kept extents', [2, 3, 4], [0, 2], true),
      sample('everything', [2, 3], [0, 1], false),
    ],
  })
}

const sumDef = reduceOp(
  'sum',
  0,
  (a, x) => a + x,
  ({ inputs: [x], attrs, cotangents: [dy] }) => [
    dy ? broadcastTo(reshape(dy, keptShape(x.shape, attrs)), x.shape) : null,
  ],
)

/** Equal maxima share the cotangent evenly, as in PyTorch's `amax`. */
const maxDef = reduceOp('max', -Infinity, Math.max, ({ inputs: [x], outputs: [y], attrs, cotangents: [dy] }) => {
  if (!dy) return [null]
  const kept = keptShape(x.shape, attrs)
  const isMax = cast(equal(x, reshape(y, kept)), x.dtype)
  const ties = sum(isMax, { axes: attrs.axes, keepDims: true })
  return [mul(isMax, div(reshape(dy, kept), ties))]
})

type NoAttrs = Record<string, never>

const sumSquaresDef = defineOp<NoAttrs>({
  name: 'sumSquares',
  infer(inputs) {
    arity('sumSquares', inputs, 1)
    sameFloat('sumSquares', inputs)
    return [f32()]
  },
  reference: ([x]) => [Float64Array.of(x.reduce((total, v) => total + v * v, 0))],
  vjp: ({ inputs: [x], cotangents: [dy] }) => [dy ? mul(scale(x, 2), cast(dy, x.dtype)) : null],
  samples: () => [
    { title: 'a matrix', inputs: [normal(f32(5, 7))], attrs: {} },
    { title: 'one element', inputs: [normal(f32(1))], attrs: {} },
  ],
})

export const reduceOps = { sum: sumDef, max: maxDef, sumSquares: sumSquaresDef } as const

export interface ReduceOptions {
  /** Axes to reduce, negative counted from the end; all of them by default. */
  readonly axes?: readonly number[]
  /** Keep the reduced axes with extent 1; false by default. */
  readonly keepDims?: boolean
}

function reduceAttrs(x: Value, options: ReduceOptions): ReduceAttrs {
  const axes = options.axes ?? x.shape.map((_, axis) => axis)
  const sorted = axes.map((axis) => normalizeAxis(axis, x.shape.length)).sort((a, b) => a - b)
  return { axes: sorted, keepDims: options.keepDims ?? false }
}

/** Sum over axes; a scalar is its own sum. */
export const sum = (x: Value, options: ReduceOptions = {}): Value =>
  x.shape.length === 0 ? x : emit(sumDef, [x], reduceAttrs(x, options))
/** Maximum over axes. */
export const max = (x: Value, options: ReduceOptions = {}): Value => emit(maxDef, [x], reduceAttrs(x, options))
/** Mean over axes. */
export function mean(x: Value, options: ReduceOptions = {}): Value {
  const total = sum(x, options)
  return scale(total, sizeOf(total.shape) / sizeOf(x.shape))
}
/** Sum of the squares of all elements, as an f32 scalar. */
export const sumSquares = (x: Value): Value => emit(sumSquaresDef, [x], {})
