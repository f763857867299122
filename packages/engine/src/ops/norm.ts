import { internal } from '../errors.js'
import type { Value } from '../ir/graph.js'
import { f32, isFloat } from '../ir/tensor-type.js'
import { arity, at, defineOp, emit, emitAll, expect, normal } from './define.js'
import { cast, mul } from './elementwise.js'
import { reshape } from './movement.js'
import { sum } from './reduce.js'

export type RmsNormAttrs = { readonly eps: number }

/** y = x / rms(x) * weight over the last axis (Zhang and Sennrich 2019); also returns 1 / rms(x) per row, in f32. */
const rmsNormDef = defineOp<RmsNormAttrs>({
  name: 'rmsNorm',
  infer(inputs) {
    arity('rmsNorm', inputs, 2)
    const [x, weight] = [at(inputs, 0), at(inputs, 1)]
    const width = x.shape[x.shape.length - 1]
    expect(isFloat(x.dtype) && weight.dtype === x.dtype, 'rmsNorm', 'inputs must have one float dtype', inputs)
    expect(weight.shape.length === 1 && weight.shape[0] === width, 'rmsNorm', `the weight must be [${width}]`, inputs)
    return [x, f32(...x.shape.slice(0, -1))]
  },
  reference([x, weight], { eps }) {
    const width = weight.length
    const invRms = new Float64Array(x.length / width)
    for (let row = 0; row < invRms.length; row++) {
      let squares = 0
      for (let i = 0; i < width; i++) squares += x[row * width + i] ** 2
      invRms[row] = 1 / Math.sqrt(squares / width + eps)
    }
    return [x.map((v, i) => v * invRms[Math.floor(i / width)] * weight[i % width]), invRms]
  },
  vjp({ inputs, outputs, cotangents: [dy, dInvRms], needs }) {
    if (dInvRms) throw internal('the inverse RMS of rmsNorm is for its backward only')
    if (!dy) return [null, null]
    const [x, weight, invRms] = [at(inputs, 0), at(inputs, 1), at(outputs, 1)]
    const dx = needs[0] ? emit(rmsNormBackwardDef, [dy, x, weight, invRms], {}) : null
    if (!needs[1]) return [dx, null]
    const normalised = mul(x, cast(reshape(invRms, [...invRms.shape, 1]), x.dtype))
    const axes = x.shape.slice(0, -1).map((_, axis) => axis)
    return [dx, axes.length > 0 ? sum(mul(dy, normalised), { axes }) : mul(dy, normalised)]
  },
  samples: () => [
    { title: 'two axes', inputs: [normal(f32(3, 8)), normal(f32(8))], attrs: { eps: 1e-5 } },
    { title: 'three axes', inputs: [normal(f32(2, 3, 5)), normal(f32(5))], attrs: { eps: 1e-6 } },
    { title: 'width 1', inputs: [normal(f32(4, 1)), normal(f32(1))], attrs: { eps: 0.5 } },
  ],
})

/** dx of rmsNorm: with g = dy * weight and r = 1 / rms, dx = r (g - x r² mean(g x)). */
const rmsNormBackwardDef = defineOp<Record<string, never>>({
  name: 'rmsNormBackward',
  infer(inputs) {
    arity('rmsNormBackward', inputs, 4)
    return [at(inputs, 1)]
  },
  reference([dy, x, weight, invRms]) {
    const width = weight.length
    const dx = new Float64Array(x.length)
    for (let row = 0; row < invRms.length; row++) {
      const r = invRms[row]
      let dot = 0
      for (let i = 0; i < width; i++) dot += dy[row * width + i] * weight[i] * x[row * width + i]
      for (let i = 0; i < width; i++) {
        const o = row * width + i
        dx[o] = r * (dy[o] * weight[i] - (x[o] * r * r * dot) / width)
      }
    }
    return [dx]
  },
  vjp: { nonDifferentiable: 'second derivatives are not needed to train' },
  samples: () => [
    {
      title: 'three axes',
      inputs: [normal(f32(2, 3, 8)), normal(f32(2, 3, 8)), normal(f32(8)), { type: f32(2, 3), range: [0.5, 2] }],
      attrs: {},
    },
  ],
})

export const normOps = { rmsNorm: rmsNormDef, rmsNormBackward: rmsNormBackwardDef } as const

/** RMS normalisation of the last axis: x[..., width], weight[width]; `eps` is added to the mean square. */
export const rmsNorm = (x: Value, weight: Value, o: RmsNormAttrs): Value =>
  at(emitAll(rmsNormDef, [x, weight], { eps: o.eps }), 0)
