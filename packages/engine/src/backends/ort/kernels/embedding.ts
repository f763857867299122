import { sizeOf } from '../../../ir/tensor-type.js'
import type { ReferenceTypes } from '../../../ops/define.js'
import type { LowerContext } from '../lower.js'

export const embeddingKernels = {
  embedding: ({ onnx }: LowerContext, [table, ids]: readonly string[]) => [
    onnx.node('Gather', [table, ids], { axis: 0 }),
  ],
  embeddingBackward({ onnx }: LowerContext, [dy, ids]: readonly string[], _attrs: object, types: ReferenceTypes) {
    const count = sizeOf(types.inputs[1].shape)
    const [rows, width] = types.outputs[0].shape
    const indices = onnx.cast(onnx.reshape(ids, [count, 1]), 'int64')
    const updates = onnx.reshape(dy, [count, width])
    return [onnx.node('ScatterND', [onnx.filled([rows, width], 0), indices, updates], { reduction: 'add' })]
  },
}
