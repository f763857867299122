import type { Value } from '../ir/graph.js'
import { f32, nf4 } from '../ir/tensor-type.js'
import { arity, at, defineOp, emit, expect, normal } from './define.js'

type NoAttrs = Record<string, never>

/** The dense f32 values of an nf4 constant: code[nibble] * absmax of its block (Dettmers et al. 2023). */
const dequantizeDef = defineOp<NoAttrs>({
  name: 'dequantize',
  infer(inputs) {
    arity('dequantize', inputs, 1)
    expect(at(inputs, 0).dtype === 'nf4', 'dequantize', 'takes an nf4 constant', inputs)
    return [f32(...at(inputs, 0).shape)]
  },
  // Executors bind nf4 constants already dequantized to the reference.
  reference: ([w]) => [w],
  vjp: { nonDifferentiable: 'quantized weights are frozen' },
  samples: () => [
    { title: 'whole blocks', inputs: [normal(nf4([4, 32]))], attrs: {} },
    { title: 'a tail block of odd size', inputs: [normal(nf4([5, 15], 32))], attrs: {} },
  ],
})

export const quantOps = { dequantize: dequantizeDef } as const

/** The dense f32 values of an nf4 constant. */
export const dequantize = (weight: Value): Value => emit(dequantizeDef, [weight], {})
