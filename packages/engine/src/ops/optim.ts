import type { Value } from '../ir/graph.js'
import { f32, sameType } from '../ir/tensor-type.js'
import { arity, at, defineOp, emitAll, expect, normal, range } from './define.js'

export type AdamwAttrs = {
  readonly beta1: number
  readonly beta2: number
  readonly eps: number
  readonly weightDecay: number
}

/**
 * One step of AdamW (Loshchilov and Hutter 2019) with PyTorch's arrangement: g' = gradScale g; p -= lr weightDecay p;
 * m = beta1 m + (1 - beta1) g'; v = beta2 v + (1 - beta2) g'²; p -= lr / bias1 * m / (sqrt(v) / sqrt(bias2) + eps).
 * bias1 = 1 - beta1^t and bias2 = 1 - beta2^t come from the host, in float64 arithmetic.
 */
const adamwStepDef = defineOp<AdamwAttrs>({
  name: 'adamwStep',
  infer(inputs) {
    arity('adamwStep', inputs, 8)
    const parameter = at(inputs, 0)
    expect(
      parameter.dtype === 'f32' && inputs.slice(1, 4).every((t) => sameType(t, parameter)),
      'adamwStep',
      'parameter, gradient and moments must have one f32 type',
      inputs,
    )
    expect(
      inputs.slice(4).every((t) => t.dtype === 'f32' && t.shape.length === 0),
      'adamwStep',
      'learningRate, bias1, bias2 and gradScale must be f32 scalars',
      inputs,
    )
    return [parameter, parameter, parameter]
  },
  reference([p, g, m, v, [learningRate], [bias1], [bias2], [gradScale]], { beta1, beta2, eps, weightDecay }) {
    const nextM = m.map((x, i) => beta1 * x + (1 - beta1) * g[i] * gradScale)
    const nextV = v.map((x, i) => beta2 * x + (1 - beta2) * (g[i] * gradScale) ** 2)
    const nextP = p.map((x, i) => {
      const denominator = Math.sqrt(nextV[i]) / Math.sqrt(bias2) + eps
      return x * (1 - learningRate * weightDecay) - ((learningRate / bias1) * nextM[i]) / denominator
    })
    return [nextP, nextM, nextV]
  },
  vjp: { nonDifferentiable: 'the optimizer is not differentiated' },
  samples: () => [
    {
      title: 'with weight decay',
      inputs: [
        normal(f32(3, 4)),
        normal(f32(3, 4)),
        normal(f32(3, 4)),
        range(f32(3, 4), 0, 1),
        range(f32(), 0.01, 0.1),
        range(f32(), 0.1, 1),
        range(f32(), 0.001, 1),
        range(f32(), 0.1, 1),
      ],
      attrs: { beta1: 0.9, beta2: 0.999, eps: 1e-8, weightDecay: 0.1 },
    },
  ],
})

export const optimOps = { adamwStep: adamwStepDef } as const

export interface AdamwInputs {
  readonly parameter: Value
  readonly gradient: Value
  readonly firstMoment: Value
  readonly secondMoment: Value
  /** f32 scalars. `bias1` is 1 - beta1^t, `bias2` is 1 - beta2^t, `gradScale` multiplies the gradient (clipping, averaging). */
  readonly learningRate: Value
  readonly bias1: Value
  readonly bias2: Value
  readonly gradScale: Value
}

/** One AdamW step: the next parameter and moments, all f32 of the parameter's shape. */
export function adamwStep(
  i: AdamwInputs,
  attrs: AdamwAttrs,
): { parameter: Value; firstMoment: Value; secondMoment: Value } {
  const inputs = [i.parameter, i.gradient, i.firstMoment, i.secondMoment, i.learningRate, i.bias1, i.bias2, i.gradScale]
  const outputs = emitAll(adamwStepDef, inputs, attrs)
  return { parameter: at(outputs, 0), firstMoment: at(outputs, 1), secondMoment: at(outputs, 2) }
}
