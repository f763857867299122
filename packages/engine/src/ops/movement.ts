import { EngineError } from '../errors.js'
import type { Value } from '../ir/graph.js'
import { f32, sameShape, sizeOf, stridesOf, type Shape } from '../ir/tensor-type.js'
import { forEachBroadcast, normalizeAxis } from './broadcast.js'
import { arity, at, defineOp, emit, expect, normal } from './define.js'
import { full, unbroadcast } from './elementwise.js'

export type ReshapeAttrs = { readonly shape: readonly number[] }

const reshapeDef = defineOp<ReshapeAttrs>({
  name: 'reshape',
  infer(inputs, { shape }) {
    arity('reshape', inputs, 1)
    expect(
      sizeOf(at(inputs, 0).shape) === sizeOf(shape),
      'reshape',
      `[${shape.join(',')}] must keep the element count`,
      inputs,
    )
    return [{ dtype: at(inputs, 0).dtype, shape }]
  },
  reference: ([x]) => [x],
  vjp: ({ inputs: [x], cotangents: [dy] }) => [dy ? reshape(dy, x.shape) : null],
  samples: () => [{ title: 'to another rank', inputs: [normal(f32(2, 6))], attrs: { shape: [3, 2, 2] } }],
})

export type TransposeAttrs = { readonly perm: readonly number[] }

const transposeDef = defineOp<TransposeAttrs>({
  name: 'transpose',
  infer(inputs, { perm }) {
    arity('transpose', inputs, 1)
    const { dtype, shape } = at(inputs, 0)
    const axes = [...perm].sort((a, b) => a - b)
    expect(
      perm.length === shape.length && axes.every((axis, i) => axis === i),
      'transpose',
      `[${perm.join(',')}] must order the axes of the input`,
      inputs,
    )
    return [{ dtype, shape: perm.map((axis) => shape[axis]) }]
  },
  reference([x], { perm }, types) {
    const strides = stridesOf(at(types.inputs, 0).shape)
    const { shape } = at(types.outputs, 0)
    const own = stridesOf(shape)
    const y = new Float64Array(x.length)
    for (let out = 0; out < y.length; out++) {
      let from = 0
      perm.forEach((axis, i) => (from += (Math.floor(out / own[i]) % shape[i]) * strides[axis]))
      y[out] = x[from]
    }
    return [y]
  },
  vjp({ attrs: { perm }, cotangents: [dy] }) {
    const inverse = perm.map((_, axis) => perm.indexOf(axis))
    return [dy ? transpose(dy, inverse) : null]
  },
  samples: () => [
    { title: 'a matrix', inputs: [normal(f32(2, 3))], attrs: { perm: [1, 0] } },
    { title: 'heads before tokens', inputs: [normal(f32(2, 3, 4, 5))], attrs: { perm: [0, 2, 1, 3] } },
  ],
})

export type BroadcastAttrs = { readonly shape: readonly number[] }

const broadcastToDef = defineOp<BroadcastAttrs>({
  name: 'broadcastTo',
  infer(inputs, { shape }) {
    arity('broadcastTo', inputs, 1)
    const from = at(inputs, 0).shape
    const lead = shape.length - from.length
    expect(
      lead >= 0 && from.every((n, axis) => n === 1 || n === shape[axis + lead]),
      'broadcastTo',
      `the input must broadcast to [${shape.join(',')}]`,
      inputs,
    )
    return [{ dtype: at(inputs, 0).dtype, shape }]
  },
  reference([x], { shape }, types) {
    const y = new Float64Array(sizeOf(shape))
    forEachBroadcast(shape, [at(types.inputs, 0).shape], (out, [i]) => (y[out] = x[i]))
    return [y]
  },
  vjp: ({ inputs: [x], cotangents: [dy] }) => [dy ? unbroadcast(dy, x.shape) : null],
  samples: () => [
    { title: 'a column', inputs: [normal(f32(3, 1))], attrs: { shape: [2, 3, 4] } },
    { title: 'a scalar', inputs: [normal(f32())], attrs: { shape: [5] } },
  ],
})

export type SliceAttrs = { readonly axis: number; readonly start: number; readonly end: number }

const sliceDef = defineOp<SliceAttrs>({
  name: 'slice',
  infer(inputs, { axis, start, end }) {
    arity('slice', inputs, 1)
    const { dtype, shape } = at(inputs, 0)
    expect(
      axis >= 0 && axis < shape.length && start >= 0 && start < end && end <= shape[axis],
      'slice',
      `axis ${axis} from ${start} to ${end} must lie in the input`,
      inputs,
    )
    return [{ dtype, shape: shape.map((n, a) => (a === axis ? end - start : n)) }]
  },
  reference([x], { axis, start, end }, types) {
    const { shape } = at(types.inputs, 0)
    const inner = sizeOf(shape.slice(axis + 1))
    const outer = sizeOf(shape.slice(0, axis))
    const parts = Array.from({ length: outer }, (_, o) =>
      x.subarray((o * shape[axis] + start) * inner, (o * shape[axis] + end) * inner),
    )
    return [joinParts(parts)]
  },
  vjp({ inputs: [x], attrs: { axis, start, end }, cotangents: [dy] }) {
    if (!dy) return [null]
    const zeros = (extent: number) =>
      full(dy.graph, { dtype: dy.dtype, shape: x.shape.map((n, a) => (a === axis ? extent : n)) }, 0)
    const parts = [
      ...(start > 0 ? [zeros(start)] : []),
      dy,
      ...(end < x.shape[axis] ? [zeros(x.shape[axis] - end)] : []),
    ]
    return [concat(parts, axis)]
  },
  samples: () => [
    { title: 'the middle of the last axis', inputs: [normal(f32(3, 6))], attrs: { axis: 1, start: 2, end: 5 } },
    { title: 'the start of the first axis', inputs: [normal(f32(4, 2))], attrs: { axis: 0, start: 0, end: 1 } },
  ],
})

export type ConcatAttrs = { readonly axis: number }

const concatDef = defineOp<ConcatAttrs>({
  name: 'concat',
  infer(inputs, { axis }) {
    const [first] = inputs
    expect(
      first !== undefined && axis >= 0 && axis < first.shape.length,
      'concat',
      `needs inputs with axis ${axis}`,
      inputs,
    )
    const rest = (shape: Shape) => shape.filter((_, a) => a !== axis)
    expect(
      inputs.every((t) => t.dtype === first.dtype && sameShape(rest(t.shape), rest(first.shape))),
      'concat',
      `inputs must agree but for axis ${axis}`,
      inputs,
    )
    const extent = inputs.reduce((total, t) => total + t.shape[axis], 0)
    return [{ dtype: first.dtype, shape: first.shape.map((n, a) => (a === axis ? extent : n)) }]
  },
  reference(inputs, { axis }, types) {
    const outer = sizeOf(at(types.outputs, 0).shape.slice(0, axis))
    const parts: Float64Array[] = []
    for (let o = 0; o < outer; o++) {
      inputs.forEach((x) => parts.push(x.subarray((o * x.length) / outer, ((o + 1) * x.length) / outer)))
    }
    return [joinParts(parts)]
  },
  vjp({ inputs, attrs: { axis }, cotangents: [dy] }) {
    let start = 0
    return inputs.map((x) => {
      const end = start + x.shape[axis]
      const part = dy ? slice(dy, { axis, start, end }) : null
      start = end
      return part
    })
  },
  samples: () => [
    { title: 'columns', inputs: [normal(f32(2, 3)), normal(f32(2, 1)), normal(f32(2, 4))], attrs: { axis: 1 } },
    { title: 'rows', inputs: [normal(f32(1, 3)), normal(f32(2, 3))], attrs: { axis: 0 } },
  ],
})

function joinParts(parts: readonly Float64Array[]): Float64Array {
  const y = new Float64Array(parts.reduce((total, part) => total + part.length, 0))
  let offset = 0
  for (const part of parts) {
    y.set(part, offset)
    offset += part.length
  }
  return y
}

export const movementOps = {
  reshape: reshapeDef,
  transpose: transposeDef,
  broadcastTo: broadcastToDef,
  slice: sliceDef,
  concat: concatDef,
} as const

/** The same elements in another shape. Returns `x` itself where nothing changes. */
export const reshape = (x: Value, shape: Shape): Value =>
  sameShape(x.shape, shape) ? x : emit(reshapeDef, [x], { shape: [...shape] })
/** Axis `i` of the result is axis `perm[i]` of the input. */
export const transpose = (x: Value, perm: readonly number[]): Value => emit(transposeDef, [x], { perm: [...perm] })
/** Repeats along axes of extent 1, as NumPy does. Returns `x` itself where nothing changes. */
export const broadcastTo = (x: Value, shape: Shape): Value =>
  sameShape(x.shape, shape) ? x : emit(broadcastToDef, [x], { shape: [...shape] })
/** Elements `start` (included) to `end` (excluded) along one axis. */
export const slice = (x: Value, o: { axis: number; start: number; end: number }): Value =>
  emit(sliceDef, [x], { axis: normalizeAxis(o.axis, x.shape.length), start: o.start, end: o.end })
/** Joins tensors along one axis. */
export function concat(parts: readonly Value[], axis: number): Value {
  const [first] = parts
  if (!first) throw new EngineError('concat: needs at least one input')
  return parts.length === 1 ? first : emit(concatDef, parts, { axis: normalizeAxis(axis, first.shape.length) })
}
