import type { Value } from '../ir/graph.js'
import { f32, i32, isFloat, sizeOf } from '../ir/tensor-type.js'
import { arity, at, defineOp, emit, expect, normal, values } from './define.js'

type NoAttrs = Record<string, never>

const embeddingDef = defineOp<NoAttrs>({
  name: 'embedding',
  infer(inputs) {
    arity('embedding', inputs, 2)
    const [table, ids] = [at(inputs, 0), at(inputs, 1)]
    expect(
      isFloat(table.dtype) && table.shape.length === 2 && ids.dtype === 'i32',
      'embedding',
      'takes a float table [rows, width] and i32 ids',
      inputs,
    )
    return [{ dtype: table.dtype, shape: [...ids.shape, table.shape[1]] }]
  },
  reference([table, ids], _attrs, types) {
    const [, width] = at(types.inputs, 0).shape
    const y = new Float64Array(ids.length * width)
    ids.forEach((id, row) => y.set(table.subarray(id * width, (id + 1) * width), row * width))
    return [y]
  },
  vjp: ({ inputs: [table, ids], cotangents: [dy], needs }) => [
    dy && needs[0] ? emit(embeddingBackwardDef, [dy, ids], { rows: table.shape[0] }) : null,
    null,
  ],
  samples: () => [
    { title: 'repeated ids', inputs: [normal(f32(5, 3)), values(i32(2, 2), [4, 0, 4, 1])], attrs: {} },
    { title: 'one id', inputs: [normal(f32(1, 2)), values(i32(1), [0])], attrs: {} },
  ],
})

export type EmbeddingBackwardAttrs = { readonly rows: number }

const embeddingBackwardDef = defineOp<EmbeddingBackwardAttrs>({
  name: 'embeddingBackward',
  infer(inputs, { rows }) {
    arity('embeddingBackward', inputs, 2)
    const dy = at(inputs, 0)
    return [{ dtype: dy.dtype, shape: [rows, dy.shape[dy.shape.length - 1]] }]
  },
  reference([dy, ids], { rows }, types) {
    const width = at(types.outputs, 0).shape[1]
    const dTable = new Float64Array(sizeOf([rows, width]))
    ids.forEach((id, row) => {
      for (let i = 0; i < width; i++) dTable[id * width + i] += dy[row * width + i]
    })
    return [dTable]
  },
  vjp: { nonDifferentiable: 'second derivatives are not needed to train' },
  samples: () => [
    { title: 'repeated ids', inputs: [normal(f32(4, 3)), values(i32(4), [2, 0, 2, 2])], attrs: { rows: 4 } },
  ],
})

export const embeddingOps = { embedding: embeddingDef, embeddingBackward: embeddingBackwardDef } as const

/** Rows `ids` (i32, any shape) of `table` [rows, width]. */
export const embedding = (table: Value, ids: Value): Value => emit(embeddingDef, [table, ids], {})
