import { sizeOf } from '../../../ir/tensor-type.js'
import type { ReferenceTypes } from '../../../ops/define.js'
import type { LinearAttrs, MatmulAttrs } from '../../../ops/matmul.js'
import type { LowerContext } from '../lower.js'
import { PACKED_BLOCK } from '../../backend.js'
import { MS } from '../onnx-builder.js'
import { roundedShapes } from '../prepack.js'
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

/** Rounds its rows to 8 bits too; the runtime is slow where the weight is not an initializer, or without this level. */
const INT8_ROWS = 4

/** y = x Wᵀ with the weight rounded to 8 or 4 bits when the program is compiled. */
function roundedProduct(
  ctx: LowerContext,
  x: string,
  weight: string,
  { inputs: [, { shape }] }: ReferenceTypes,
  packing: 'int8' | 'int4',
): string {
  const [N, K] = shape
  const sizes = roundedShapes(N, K, packing)
  const inputs = [
    x,
    ctx.prepacked(weight, 'codes', 'uint8', sizes.codes),
    ctx.prepacked(weight, 'scales', 'float32', sizes.scales),
    ...(packing === 'int4' ? [ctx.prepacked(weight, 'zeros', 'uint8', sizes.zeros)] : []),
  ]
  const bits = packing === 'int8' ? 8 : 4
  return ctx.onnx.node('MatMulNBits', inputs, { N, K, bits, block_size: PACKED_BLOCK, accuracy_level: INT8_ROWS }, MS)
}

function product(ctx: LowerContext, x: string, weight: string, attrs: LinearAttrs, types: ReferenceTypes): string {
  const { transposeWeight, alpha } = attrs
  const [, type] = types.inputs
  if (transposeWeight && alpha === 1) {
    const packing = ctx.packing(weight)
    if (packing === 'int8' || packing === 'int4') return roundedProduct(ctx, x, weight, types, packing)
    if (ctx.isPacked(weight)) return packedProduct(ctx, x, weight, types)
    if (packing === 'exact') {
      return ctx.onnx.matmul(x, ctx.prepacked(weight, 'whole', 'float32', type.shape), { transB: true })
    }
  }
  return ctx.onnx.matmul(x, denseWeight(ctx, weight, type), { transB: transposeWeight, alpha })
}

export const matmulKernels = {
  linear(ctx: LowerContext, [x, weight]: Names, attrs: LinearAttrs, types: ReferenceTypes) {
    const { onnx } = ctx
    const [{ shape }] = types.inputs
    const flat = shape.length === 2 ? x : onnx.reshape(x, [sizeOf(shape.slice(0, -1)), shape[shape.length - 1]])
    const y = product(ctx, flat, weight, attrs, types)
    return [shape.length === 2 ? y : onnx.reshape(y, types.outputs[0].shape)]
  },
  matmul: ({ onnx }: LowerContext, [a, b]: Names, { transposeA, transposeB, alpha }: MatmulAttrs) => [
    onnx.matmul(a, b, { transA: transposeA, transB: transposeB, alpha }),
  ],
}
