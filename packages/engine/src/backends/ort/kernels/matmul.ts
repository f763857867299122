import { sizeOf } from '../../../ir/tensor-type.js'
import type { ReferenceTypes } from '../../../ops/define.js'
import type { LinearAttrs, MatmulAttrs } from '../../../ops/matmul.js'
import type { LowerContext } from '../lower.js'
import { MS } from '../onnx-builder.js'
import { denseWeight } from './quant.js'

type Names = readonly string[]

/** MatMulBnb4's quant_type of NF4. */
const NF4 = 1

/** y = x Wᵀ straight from the packed codes. */
function packedProduct(ctx: LowerContext, x: string, weight: string, { inputs: [, type] }: ReferenceTypes): string {
  const [N, K] = type.shape
  const inputs = [x, ctx.packed(weight, 'codes8'), ctx.packed(weight, 'absmax')]
  const attributes = { N, K, block_size: type.blockSize ?? 64, quant_type: NF4, training_mode: 0 }
  return ctx.onnx.node('MatMulBnb4', inputs, attributes, MS)
}

export const matmulKernels = {
  linear(ctx: LowerContext, [x, weight]: Names, { transposeWeight, alpha }: LinearAttrs, types: ReferenceTypes) {
    const { onnx } = ctx
    const [{ shape }] = types.inputs
    const flat = shape.length === 2 ? x : onnx.reshape(x, [sizeOf(shape.slice(0, -1)), shape[shape.length - 1]])
    const y =
      ctx.isPacked(weight) && transposeWeight && alpha === 1
        ? packedProduct(ctx, flat, weight, types)
        : onnx.matmul(flat, denseWeight(ctx, weight, types.inputs[1]), { transB: transposeWeight, alpha })
    return [shape.length === 2 ? y : onnx.reshape(y, types.outputs[0].shape)]
  },
  matmul: ({ onnx }: LowerContext, [a, b]: Names, { transposeA, transposeB, alpha }: MatmulAttrs) => [
    onnx.matmul(a, b, { transA: transposeA, transB: transposeB, alpha }),
  ],
}
