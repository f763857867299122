import type { LowerContext } from '../lower.js'
import { MS } from '../onnx-builder.js'

/** QuickGelu with alpha 1 is x * sigmoid(x). The backward pass reads it again. */
const silu = (ctx: LowerContext, gate: string): string =>
  ctx.keep(`silu:${gate}`, () => ctx.onnx.node('QuickGelu', [gate], { alpha: { float: 1 } }, MS))

export const activationKernels = {
  swiglu: (ctx: LowerContext, [gate, up]: readonly string[]) => [ctx.onnx.node('Mul', [silu(ctx, gate), up])],
  swigluBackward(ctx: LowerContext, [dy, gate, up]: readonly string[]) {
    const { onnx } = ctx
    const s = onnx.node('Sigmoid', [gate])
    const activated = silu(ctx, gate)
    const derivative = onnx.node('Add', [s, onnx.node('Mul', [activated, onnx.node('Sub', [onnx.float(1), s])])])
    const dGate = onnx.node('Mul', [onnx.node('Mul', [dy, up]), derivative])
    return [dGate, onnx.node('Mul', [dy, activated])]
  },
}
