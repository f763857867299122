import type { ReduceAttrs } from '../../../ops/reduce.js'
import type { LowerContext } from '../lower.js'

const reduce =
  (opType: string) =>
  ({ onnx }: LowerContext, [x]: readonly string[], { axes, keepDims }: ReduceAttrs): string[] => [
    onnx.node(opType, [x, onnx.int64s(axes)], { keepdims: Number(keepDims) }),
  ]

export const reduceKernels = {
  sum: reduce('ReduceSum'),
  max: reduce('ReduceMax'),
  sumSquares: ({ onnx }: LowerContext, [x]: readonly string[]) => [onnx.node('ReduceSumSquare', [x], { keepdims: 0 })],
}
