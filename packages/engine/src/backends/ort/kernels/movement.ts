import type { BroadcastAttrs, ConcatAttrs, ReshapeAttrs, SliceAttrs, TransposeAttrs } from '../../../ops/movement.js'
import type { LowerContext } from '../lower.js'

type Names = readonly string[]

export const movementKernels = {
  reshape: ({ onnx }: LowerContext, [x]: Names, { shape }: ReshapeAttrs) => [onnx.reshape(x, shape)],
  transpose: ({ onnx }: LowerContext, [x]: Names, { perm }: TransposeAttrs) => [onnx.transpose(x, perm)],
  broadcastTo: ({ onnx }: LowerContext, [x]: Names, { shape }: BroadcastAttrs) => [
    onnx.node('Expand', [x, onnx.int64s(shape)]),
  ],
  slice: ({ onnx }: LowerContext, [x]: Names, { axis, start, end }: SliceAttrs) => [
    onnx.node('Slice', [x, onnx.int64s([start]), onnx.int64s([end]), onnx.int64s([axis])]),
  ],
  concat: ({ onnx }: LowerContext, parts: Names, { axis }: ConcatAttrs) => [onnx.node('Concat', parts, { axis })],
}
