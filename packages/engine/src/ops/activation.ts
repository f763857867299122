import type { Value } from '../ir/graph.js'
import { f32, sameType, type TensorType } from '../ir/tensor-type.js'
import { arity, at, defineOp, emit, emitAll, expect, normal, sameFloat } from './define.js'

type NoAttrs = Record<string, never>

const sigmoid = (x: number): number => (x >= 0 ? 1 / (1 + Math.exp(-x)) : Math.exp(x) / (1 + Math.exp(x)))

function sameTypes(op: string, inputs: readonly TensorType[], count: number): TensorType {
  arity(op, inputs, count)
  sameFloat(op, inputs)
  expect(
    inputs.every((t) => sameType(t, at(inputs, 0))),
    op,
    'inputs must have one type',
    inputs,
  )
  return at(inputs, 0)
}

/** silu(gate) * up, the gate of SwiGLU feed-forward layers (Shazeer 2020). */
const swigluDef = defineOp<NoAttrs>({
  name: 'swiglu',
  infer: (inputs) => [sameTypes('swiglu', inputs, 2)],
  reference: ([gate, up]) => [gate.map((g, i) => g * sigmoid(g) * up[i])],
  vjp({ inputs: [gate, up], cotangents: [dy] }) {
    return dy ? emitAll(swigluBackwardDef, [dy, gate, up], {}) : [null, null]
  },
  samples: () => [
    { title: 'a matrix', inputs: [normal(f32(3, 5)), normal(f32(3, 5))], attrs: {} },
    {
      title: 'large magnitudes',
      inputs: [{ type: f32(9), range: [-60, 60] }, normal(f32(9))],
      attrs: {},
      forwardOnly: true,
    },
  ],
})

/** dgate = dy up s (1 + g (1 - s)) and dup = dy g s, with s = sigmoid(g). */
const swigluBackwardDef = defineOp<NoAttrs>({
  name: 'swigluBackward',
  infer(inputs) {
    const type = sameTypes('swigluBackward', inputs, 3)
    return [type, type]
  },
  reference([dy, gate, up]) {
    const dGate = gate.map((g, i) => {
      const s = sigmoid(g)
      return dy[i] * up[i] * s * (1 + g * (1 - s))
    })
    return [dGate, gate.map((g, i) => dy[i] * g * sigmoid(g))]
  },
  vjp: { nonDifferentiable: 'second derivatives are not needed to train' },
  samples: () => [{ title: 'a matrix', inputs: [normal(f32(3, 5)), normal(f32(3, 5)), normal(f32(3, 5))], attrs: {} }],
})

export const activationOps = { swiglu: swigluDef, swigluBackward: swigluBackwardDef } as const

/** `silu(gate) * up`, both of one type. */
export const swiglu = (gate: Value, up: Value): Value => emit(swigluDef, [gate, up], {})
