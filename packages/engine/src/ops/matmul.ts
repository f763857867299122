import type { Value } from '../ir/graph.js'
import { f32, isFloat, nf4, sameShape, sizeOf, type Shape } from '../ir/tensor-type.js'
import { arity, at, defineOp, emit, expect, normal, sameFloat } from './define.js'
import { reshape } from './movement.js'

export type LinearAttrs = {
  /** true: y = alpha x Wᵀ (the forward of a linear layer); false: y = alpha x W (its backward). */
  readonly transposeWeight: boolean
  readonly alpha: number
}

const lastAxis = (shape: Shape): number => shape[shape.length - 1] ?? 1

const linearDef = defineOp<LinearAttrs>({
  name: 'linear',
  infer(inputs, { transposeWeight }) {
    arity('linear', inputs, 2)
    const [x, w] = [at(inputs, 0), at(inputs, 1)]
    expect(
      isFloat(x.dtype) && (w.dtype === x.dtype || w.dtype === 'nf4'),
      'linear',
      'the weight must be nf4 or of the dtype of x',
      inputs,
    )
    expect(x.shape.length >= 1 && w.shape.length === 2, 'linear', 'takes x[..., in] and a matrix', inputs)
    const [contracted, kept] = transposeWeight ? [w.shape[1], w.shape[0]] : [w.shape[0], w.shape[1]]
    expect(lastAxis(x.shape) === contracted, 'linear', `the last axis of x must be ${contracted}`, inputs)
    return [{ dtype: x.dtype, shape: [...x.shape.slice(0, -1), kept] }]
  },
  reference([x, w], { transposeWeight, alpha }, types) {
    const [rows, columns] = at(types.inputs, 1).shape
    const [contracted, kept] = transposeWeight ? [columns, rows] : [rows, columns]
    const [rowStride, step] = transposeWeight ? [columns, 1] : [1, columns]
    const y = new Float64Array(sizeOf(at(types.outputs, 0).shape))
    for (let i = 0; i < y.length; i++) {
      const row = Math.floor(i / kept) * contracted
      const column = (i % kept) * rowStride
      let total = 0
      for (let k = 0; k < contracted; k++) total += x[row + k] * w[column + k * step]
      y[i] = alpha * total
    }
    return [y]
  },
  vjp({ inputs, attrs: { transposeWeight, alpha }, cotangents: [dy], needs }) {
    if (!dy) return [null, null]
    const [x, w] = [at(inputs, 0), at(inputs, 1)]
    const dx = needs[0] ? linear(dy, w, { transposeWeight: !transposeWeight, alpha }) : null
    if (!needs[1]) return [dx, null]
    const [rowsX, rowsDy] = [asMatrix(x), asMatrix(dy)]
    const [left, right] = transposeWeight ? [rowsDy, rowsX] : [rowsX, rowsDy]
    return [dx, matmul(left, right, { transposeA: true, alpha })]
  },
  samples: () => [
    { title: 'a layer', inputs: [normal(f32(5, 6)), normal(f32(4, 6))], attrs: { transposeWeight: true, alpha: 1 } },
    {
      title: 'its backward',
      inputs: [normal(f32(2, 3, 4)), normal(f32(4, 6))],
      attrs: { transposeWeight: false, alpha: 0.5 },
    },
    { title: 'nf4', inputs: [normal(f32(3, 64)), normal(nf4([32, 64]))], attrs: { transposeWeight: true, alpha: 1 } },
    {
      title: 'nf4 backward',
      inputs: [normal(f32(3, 32)), normal(nf4([32, 64]))],
      attrs: { transposeWeight: false, alpha: 1 },
    },
    {
      title: 'nf4 with a tail block',
      inputs: [normal(f32(3, 10)), normal(nf4([7, 10]))],
      attrs: { transposeWeight: true, alpha: 2 },
    },
    {
      title: 'nf4 with its tail block backward',
      inputs: [normal(f32(3, 7)), normal(nf4([7, 10]))],
      attrs: { transposeWeight: false, alpha: 2 },
    },
    { title: 'one row', inputs: [normal(f32(1, 3)), normal(f32(1, 3))], attrs: { transposeWeight: true, alpha: -1 } },
  ],
})

const asMatrix = (x: Value): Value => reshape(x, [sizeOf(x.shape.slice(0, -1)), lastAxis(x.shape)])

export type MatmulAttrs = { readonly transposeA: boolean; readonly transposeB: boolean; readonly alpha: number }

const matmulDef = defineOp<MatmulAttrs>({
  name: 'matmul',
  infer(inputs, { transposeA, transposeB }) {
    arity('matmul', inputs, 2)
    const dtype = sameFloat('matmul', inputs)
    const [a, b] = [at(inputs, 0).shape, at(inputs, 1).shape]
    const batch = a.slice(0, -2)
    expect(a.length >= 2 && sameShape(batch, b.slice(0, -2)), 'matmul', 'batch axes must be equal', inputs)
    const [m, k] = matrixAxes(a, transposeA)
    const [k2, n] = matrixAxes(b, transposeB)
    expect(k === k2, 'matmul', 'the contracted axes must be equal', inputs)
    return [{ dtype, shape: [...batch, m, n] }]
  },
  reference([a, b], { transposeA, transposeB, alpha }, types) {
    const [m, k] = matrixAxes(at(types.inputs, 0).shape, transposeA)
    const [, n] = matrixAxes(at(types.inputs, 1).shape, transposeB)
    const y = new Float64Array(sizeOf(at(types.outputs, 0).shape))
    for (let o = 0; o < y.length; o++) {
      const batch = Math.floor(o / (m * n))
      const [row, column] = [Math.floor(o / n) % m, o % n]
      let total = 0
      for (let i = 0; i < k; i++) {
        const left = batch * m * k + (transposeA ? i * m + row : row * k + i)
        const right = batch * k * n + (transposeB ? column * k + i : i * n + column)
        total += a[left] * b[right]
      }
      y[o] = alpha * total
    }
    return [y]
  },
  vjp({ inputs, attrs: { transposeA, transposeB, alpha }, cotangents: [dy], needs }) {
    if (!dy) return [null, null]
    const [a, b] = [at(inputs, 0), at(inputs, 1)]
    const da = () =>
      transposeA
        ? matmul(b, dy, { transposeA: transposeB, transposeB: true, alpha })
        : matmul(dy, b, { transposeB: !transposeB, alpha })
    const db = () =>
      transposeB
        ? matmul(dy, a, { transposeA: true, transposeB: transposeA, alpha })
        : matmul(a, dy, { transposeA: !transposeA, alpha })
    return [needs[0] ? da() : null, needs[1] ? db() : null]
  },
  samples: () => [
    {
      title: 'plain',
      inputs: [normal(f32(3, 4)), normal(f32(4, 5))],
      attrs: { transposeA: false, transposeB: false, alpha: 1 },
    },
    {
      title: 'both transposed',
      inputs: [normal(f32(4, 3)), normal(f32(5, 4))],
      attrs: { transposeA: true, transposeB: true, alpha: 0.5 },
    },
    {
      title: 'a transposed batch',
      inputs: [normal(f32(2, 4, 3)), normal(f32(2, 4, 5))],
      attrs: { transposeA: true, transposeB: false, alpha: 2 },
    },
    {
      title: 'b transposed',
      inputs: [normal(f32(1, 4)), normal(f32(3, 4))],
      attrs: { transposeA: false, transposeB: true, alpha: 1 },
    },
  ],
})

/** The last two extents, as read. */
function matrixAxes(shape: Shape, transposed: boolean): [number, number] {
  const [rows, columns] = [shape[shape.length - 2], lastAxis(shape)]
  return transposed ? [columns, rows] : [rows, columns]
}

export const matmulOps = { linear: linearDef, matmul: matmulDef } as const

/**
 * A linear layer: `alpha * x Wᵀ` for x[..., in] and W[out, in] (dense or nf4), or with `transposeWeight: false`
 * `alpha * x W` for x[..., out].
 */
export const linear = (x: Value, weight: Value, o: Partial<LinearAttrs> = {}): Value =>
  emit(linearDef, [x, weight], { transposeWeight: o.transposeWeight ?? true, alpha: o.alpha ?? 1 })

/** `alpha * op(a) op(b)` over the last two axes, with equal batch axes. */
export const matmul = (a: Value, b: Value, o: Partial<MatmulAttrs> = {}): Value =>
  emit(matmulDef, [a, b], {
    transposeA: o.transposeA ?? false,
    transposeB: o.transposeB ?? false,
    alpha: o.alpha ?? 1,
  })
