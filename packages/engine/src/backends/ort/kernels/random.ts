import { sizeOf } from '../../../ir/tensor-type.js'
import type { ReferenceTypes } from '../../../ops/define.js'
import { dropoutThreshold, GOLDEN, type DropoutAttrs } from '../../../ops/random.js'
import type { LowerContext } from '../lower.js'
import type { OnnxBuilder } from '../onnx-builder.js'

const SIGN = 0x80000000

/** The mixer of ops/random.ts on uint32 tensors; the runtime multiplies and adds 32-bit integers as int32. */
function mix32(onnx: OnnxBuilder, x: string): string {
  const fold = (h: string, bits: number) => {
    const shifted = onnx.node('BitShift', [h, onnx.uint32(bits)], { direction: 'RIGHT' })
    return onnx.node('BitwiseXor', [h, shifted])
  }
  const times = (h: string, factor: number) =>
    onnx.cast(onnx.node('Mul', [onnx.cast(h, 'int32'), onnx.int32(factor)]), 'uint32')
  return fold(times(fold(times(fold(x, 16), 0x7feb352d), 15), 0x846ca68b), 16)
}

export const randomKernels = {
  dropout(ctx: LowerContext, [x, seed]: readonly string[], { p, stream }: DropoutAttrs, types: ReferenceTypes) {
    const { onnx } = ctx
    const { shape } = types.inputs[0]
    const count = sizeOf(shape)
    const word = (i: number) => onnx.node('Gather', [seed, onnx.int64s([i])])
    const plus = (a: string, b: string) => onnx.cast(onnx.node('Add', [a, b]), 'uint32')
    const inner = mix32(onnx, plus(word(1), onnx.int32(Math.imul(stream, GOLDEN))))
    const key = mix32(onnx, plus(word(0), onnx.cast(inner, 'int32')))
    const counters = onnx.table('uint32', [count], 'counters', () =>
      Uint32Array.from({ length: count }, (_, i) => Math.imul(i, GOLDEN)),
    )
    const hash = mix32(onnx, onnx.node('BitwiseXor', [counters, key]))
    // Unsigned comparison through int32: flipping the sign bit keeps the order.
    const signed = onnx.cast(onnx.node('BitwiseXor', [hash, onnx.uint32(SIGN)]), 'int32')
    const keep = onnx.node('GreaterOrEqual', [signed, onnx.int32(dropoutThreshold(p) ^ SIGN)])
    const factor = onnx.node('Mul', [onnx.cast(keep, 'float32'), onnx.float(1 / (1 - p))])
    return [onnx.node('Mul', [x, onnx.reshape(factor, shape)])]
  },
}
