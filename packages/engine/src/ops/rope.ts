import type { Value } from '../ir/graph.js'
import { f32, i32, isFloat, type TensorType } from '../ir/tensor-type.js'
import { arity, at, defineOp, emit, expect, normal, values, type OpDef } from './define.js'

export type RopeAttrs = { readonly inverse: boolean }

const positions = (shape: number[], list: number[]): ReturnType<typeof values> => values(i32(...shape), list)
const table = (rows: number, half: number) => ({ type: f32(rows, half), range: [-1, 1] as const, frozen: true })

function checkRope(inputs: readonly TensorType[]): void {
  arity('rope', inputs, 4)
  const [x, position, cos, sin] = [at(inputs, 0), at(inputs, 1), at(inputs, 2), at(inputs, 3)]
  expect(isFloat(x.dtype) && x.shape.length === 4, 'rope', 'x must be float [batch, tokens, heads, headDim]', inputs)
  expect(
    position.dtype === 'i32' && position.shape.join() === x.shape.slice(0, 2).join(),
    'rope',
    'positions must be i32 [batch, tokens]',
    inputs,
  )
  expect(
    cos.dtype === 'f32' && cos.shape.join() === sin.shape.join() && cos.shape[1] * 2 === x.shape[3],
    'rope',
    'cos and sin must be f32 [positions, headDim / 2]',
    inputs,
  )
}

/**
 * Rotary position embedding in the half-split layout of Transformers (Su et al. 2021): with c, s the table rows of the
 * token's position, y1 = x1 c - x2 s and y2 = x2 c + x1 s for the two halves of a head.
 */
const ropeDef: OpDef<RopeAttrs> = defineOp<RopeAttrs>({
  name: 'rope',
  infer(inputs) {
    checkRope(inputs)
    return [at(inputs, 0)]
  },
  reference([x, position, cos, sin], { inverse }, types) {
    const [, , heads, width] = at(types.inputs, 0).shape
    const half = width / 2
    const y = new Float64Array(x.length)
    for (let row = 0; row < x.length / width; row++) {
      const entry = position[Math.floor(row / heads)] * half
      for (let i = 0; i < half; i++) {
        const [c, s] = [cos[entry + i], inverse ? -sin[entry + i] : sin[entry + i]]
        const [a, b] = [x[row * width + i], x[row * width + half + i]]
        y[row * width + i] = a * c - b * s
        y[row * width + half + i] = b * c + a * s
      }
    }
    return [y]
  },
  // The rotation is orthogonal up to the table's scale, and its transpose is the rotation by the opposite angle.
  vjp: ({ inputs: [, position, cos, sin], attrs, cotangents: [dy] }) => [
    dy ? emit(ropeDef, [dy, position, cos, sin], { inverse: !attrs.inverse }) : null,
    null,
    null,
    null,
  ],
  samples: () => [
    {
      title: 'two heads',
      inputs: [normal(f32(1, 3, 2, 8)), positions([1, 3], [0, 1, 2]), table(4, 4), table(4, 4)],
      attrs: { inverse: false },
    },
    {
      title: 'positions that restart, inverse',
      inputs: [normal(f32(2, 3, 1, 4)), positions([2, 3], [0, 1, 0, 5, 4, 3]), table(6, 2), table(6, 2)],
      attrs: { inverse: true },
    },
  ],
})

export const ropeOps = { rope: ropeDef } as const

/** Rotates x[batch, tokens, heads, headDim] by the rows `positions` (i32 [batch, tokens]) of cos and sin (f32 [P, headDim / 2]). */
export const rope = (x: Value, o: { positions: Value; cos: Value; sin: Value }): Value =>
  emit(ropeDef, [x, o.positions, o.cos, o.sin], { inverse: false })
