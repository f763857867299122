import { NF4_VALUES } from '@mirastral/quant'
import { sizeOf, type TensorType } from '../../../ir/tensor-type.js'
import type { ReferenceTypes } from '../../../ops/define.js'
import type { LowerContext } from '../lower.js'

/** The four values of every 16-bit group of nibbles, as read little-endian: bytes low then high, high nibble first. */
function nibbleTable(): Float32Array {
  const table = new Float32Array(65536 * 4)
  for (let group = 0; group < 65536; group++) {
    table[group * 4] = NF4_VALUES[(group >> 4) & 15]
    table[group * 4 + 1] = NF4_VALUES[group & 15]
    table[group * 4 + 2] = NF4_VALUES[group >> 12]
    table[group * 4 + 3] = NF4_VALUES[(group >> 8) & 15]
  }
  return table
}

/** The dense float32 matrix of an NF4 constant, or the constant itself where it is fed dense. */
export function denseWeight(ctx: LowerContext, weight: string, type: TensorType): string {
  if (!ctx.isPacked(weight)) return weight
  const { onnx } = ctx
  const blockSize = type.blockSize ?? 64
  const blocks = sizeOf(type.shape) / blockSize
  const table = onnx.table('float32', [65536, 4], 'nf4', nibbleTable)
  const groups = onnx.cast(ctx.packed(weight, 'codes16'), 'int32')
  const codes = onnx.reshape(onnx.node('Gather', [table, groups]), [blocks, blockSize])
  const scaled = onnx.node('Mul', [codes, onnx.reshape(ctx.packed(weight, 'absmax'), [blocks, 1])])
  return onnx.reshape(scaled, type.shape)
}

export const quantKernels = {
  dequantize(ctx: LowerContext, [weight]: readonly string[], _attrs: object, { inputs: [type] }: ReferenceTypes) {
    return [ctx.isPacked(weight) ? denseWeight(ctx, weight, type) : ctx.onnx.node('Identity', [weight])]
  },
}
