import { EngineError } from '../../../errors.js'
import type { Shape, DType } from '../../../ir/tensor-type.js'
import { stridesOf } from '../../../ir/tensor-type.js'
import { ints, type Arg } from '../command.js'

/** Threads of a block where nothing else decides it. */
export const BLOCK = 256

/** Axes that the index arithmetic of the strided kernels has room for. */
const MAX_RANK = 6

/** An element type's name in the kernels. */
export function cType(dtype: DType): string {
  switch (dtype) {
    case 'f32':
      return 'float'
    case 'bf16':
    case 'f16':
      return dtype
    case 'i32':
      return 'int'
    case 'u8':
    case 'bool':
      return 'u8'
    case 'nf4':
      throw new EngineError('internal: nf4 has no element type on the device')
  }
}

/** Elements in 16 bytes. */
export const packSize = (dtype: DType): number => (dtype === 'f32' || dtype === 'i32' ? 4 : 8)

/** Blocks for `n` elements, `each` per thread. Kernels index with 32-bit integers. */
export function blocksFor(n: number, each = 1): [number, number, number] {
  if (n >= 2 ** 31) throw new EngineError(`cuda: a tensor must have fewer than 2^31 elements, got ${n}`)
  return [Math.max(1, Math.ceil(n / (BLOCK * each))), 1, 1]
}

/** Pads a list to the fixed length of the kernels' structs. */
export const padded = (values: readonly number[]): number[] => {
  if (values.length > MAX_RANK) throw new EngineError(`cuda: at most ${MAX_RANK} axes, got ${values.length}`)
  return [...values, ...new Array<number>(MAX_RANK - values.length).fill(0)]
}

/** Strides with which `operand` is read under an output of `shape`: 0 where it broadcasts. */
export function broadcastStrides(shape: Shape, operand: Shape): number[] {
  const own = stridesOf(operand)
  const lead = shape.length - operand.length
  return shape.map((_, axis) => (axis < lead || operand[axis - lead] === 1 ? 0 : own[axis - lead]))
}

/** The `Dims` struct of elementwise.cu. */
export function dims(shape: Shape, operands: readonly Shape[]): Arg {
  const strides = operands.flatMap((operand) => padded(broadcastStrides(shape, operand)))
  return ints([
    shape.length,
    ...padded(shape),
    ...strides,
    ...new Array<number>((3 - operands.length) * MAX_RANK).fill(0),
  ])
}
