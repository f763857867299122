import { sizeOf, stridesOf, type Shape } from '../ir/tensor-type.js'

/** Calls `visit(out, offsets)` for each element of `shape`, with the offset of the element each operand broadcasts there. */
export function forEachBroadcast(
  shape: Shape,
  operands: readonly Shape[],
  visit: (out: number, offsets: readonly number[]) => void,
): void {
  const rank = shape.length
  const strides = operands.map((operand) => {
    const own = stridesOf(operand)
    return Array.from({ length: rank }, (_, axis) => {
      const operandAxis = axis - (rank - operand.length)
      return operandAxis < 0 || operand[operandAxis] === 1 ? 0 : own[operandAxis]
    })
  })
  const index = new Array<number>(rank).fill(0)
  const offsets = new Array<number>(operands.length).fill(0)
  const size = sizeOf(shape)
  for (let out = 0; out < size; out++) {
    visit(out, offsets)
    for (let axis = rank - 1; axis >= 0; axis--) {
      const wraps = index[axis] + 1 === shape[axis]
      const step = wraps ? -index[axis] : 1
      index[axis] += step
      for (let o = 0; o < offsets.length; o++) offsets[o] += step * strides[o][axis]
      if (!wraps) break
    }
  }
}

/** Normalises an axis that may be negative. */
export const normalizeAxis = (axis: number, rank: number): number => (axis < 0 ? axis + rank : axis)
