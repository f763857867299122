import type { AdamwAttrs } from '../../../ops/optim.js'
import type { LowerContext } from '../lower.js'

export const optimKernels = {
  adamwStep(ctx: LowerContext, inputs: readonly string[], { beta1, beta2, eps, weightDecay }: AdamwAttrs) {
    const { onnx } = ctx
    const [p, g, m, v, learningRate, bias1, bias2, gradScale] = inputs
    const mul = (a: string, b: string) => onnx.node('Mul', [a, b])
    const scaled = mul(g, gradScale)
    const nextM = onnx.node('Add', [mul(m, onnx.float(beta1)), mul(scaled, onnx.float(1 - beta1))])
    const nextV = onnx.node('Add', [mul(v, onnx.float(beta2)), mul(mul(scaled, scaled), onnx.float(1 - beta2))])
    const stepSize = ctx.keep(`step:${learningRate}`, () => onnx.node('Div', [learningRate, bias1]))
    const root = ctx.keep(`root:${bias2}`, () => onnx.node('Sqrt', [bias2]))
    const denominator = onnx.node('Add', [onnx.node('Div', [onnx.node('Sqrt', [nextV]), root]), onnx.float(eps)])
    const decay = ctx.keep(`decay:${learningRate}:${weightDecay}`, () =>
      onnx.node('Sub', [onnx.float(1), mul(learningRate, onnx.float(weightDecay))]),
    )
    const decayed = weightDecay === 0 ? p : mul(p, decay)
    return [onnx.node('Sub', [decayed, onnx.node('Div', [mul(nextM, stepSize), denominator])]), nextM, nextV]
  },
}
