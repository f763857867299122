import type { ReferenceTypes } from '../../../ops/define.js'
import type { RopeAttrs } from '../../../ops/rope.js'
import type { LowerContext } from '../lower.js'
import { MS } from '../onnx-builder.js'

export const ropeKernels = {
  /** The rotation by the opposite angle is the same operator with the sine table negated. */
  rope(ctx: LowerContext, [x, positions, cos, sin]: readonly string[], { inverse }: RopeAttrs, types: ReferenceTypes) {
    const { onnx } = ctx
    const [batch, tokens, heads, headDim] = types.inputs[0].shape
    const ids = ctx.keep(`int64:${positions}`, () => onnx.cast(positions, 'int64'))
    const angle = inverse ? ctx.keep(`neg:${sin}`, () => onnx.node('Neg', [sin])) : sin
    const flat = onnx.reshape(x, [batch, tokens, heads * headDim])
    const attributes = { interleaved: 0, num_heads: heads, rotary_embedding_dim: 0 }
    return [
      onnx.reshape(onnx.node('RotaryEmbedding', [flat, ids, cos, angle], attributes, MS), [
        batch,
        tokens,
        heads,
        headDim,
      ]),
    ]
  },
}
