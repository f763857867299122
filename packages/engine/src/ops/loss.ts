import type { Value } from '../ir/graph.js'
import { f32, i32, isFloat, nf4, sizeOf, type TensorType } from '../ir/tensor-type.js'
import { arity, at, defineOp, emit, emitAll, expect, normal, values, type SampleInput } from './define.js'
import { cast } from './elementwise.js'
import { linear, matmul } from './matmul.js'

export type CrossEntropyAttrs = {
  /** Weight of the uniform distribution in the target (Szegedy et al. 2016); 0 is plain cross-entropy. */
  readonly labelSmoothing: number
}

/** The target of a position that is not trained. */
export const IGNORED = -100

function checkTargets(op: string, inputs: readonly TensorType[], rows: number, targets: TensorType): void {
  expect(targets.dtype === 'i32' && targets.shape.join() === String(rows), op, `targets must be i32[${rows}]`, inputs)
}

interface Row {
  readonly loss: number
  readonly correct: number
  readonly probabilities: Float64Array
}

/** Cross-entropy of one row of logits: (1 - e) nll + e mean(-log p). */
function crossEntropyRow(logits: Float64Array, target: number, e: number): Row {
  const top = logits.reduce((a, x) => Math.max(a, x), -Infinity)
  const exps = logits.map((x) => Math.exp(x - top))
  const total = exps.reduce((a, x) => a + x, 0)
  const logTotal = top + Math.log(total)
  const nll = logTotal - logits[target]
  const uniform = logTotal - logits.reduce((a, x) => a + x, 0) / logits.length
  return {
    loss: (1 - e) * nll + e * uniform,
    correct: logits[target] >= top ? 1 : 0,
    probabilities: exps.map((x) => x / total),
  }
}

function forwardRows(logitsOf: (row: number) => Float64Array, targets: Float64Array, e: number): Float64Array[] {
  const [loss, correct] = [new Float64Array(targets.length), new Float64Array(targets.length)]
  targets.forEach((target, row) => {
    if (target === IGNORED) return
    const result = crossEntropyRow(logitsOf(row), target, e)
    loss[row] = result.loss
    correct[row] = result.correct
  })
  return [loss, correct]
}

/** dlogits = dloss (p - (1 - e) onehot - e / vocabulary), zero for ignored rows. */
function backwardRow(logits: Float64Array, target: number, dLoss: number, e: number): Float64Array {
  if (target === IGNORED) return new Float64Array(logits.length)
  const { probabilities } = crossEntropyRow(logits, target, e)
  return probabilities.map((p, i) => dLoss * (p - (i === target ? 1 - e : 0) - e / logits.length))
}

const crossEntropyDef = defineOp<CrossEntropyAttrs>({
  name: 'crossEntropy',
  infer(inputs) {
    arity('crossEntropy', inputs, 2)
    const logits = at(inputs, 0)
    expect(
      isFloat(logits.dtype) && logits.shape.length === 2,
      'crossEntropy',
      'logits must be [rows, vocabulary]',
      inputs,
    )
    checkTargets('crossEntropy', inputs, logits.shape[0], at(inputs, 1))
    return [f32(logits.shape[0]), f32(logits.shape[0])]
  },
  reference([logits, targets], { labelSmoothing }) {
    const vocabulary = logits.length / targets.length
    return forwardRows((row) => logits.subarray(row * vocabulary, (row + 1) * vocabulary), targets, labelSmoothing)
  },
  vjp: ({ inputs: [logits, targets], attrs, cotangents: [dLoss] }) => [
    dLoss ? emit(crossEntropyBackwardDef, [dLoss, logits, targets], attrs) : null,
    null,
  ],
  samples: () => [
    {
      title: 'with ignored rows',
      inputs: [normal(f32(4, 7)), targets([3, IGNORED, 0, 6])],
      attrs: { labelSmoothing: 0 },
    },
    { title: 'label smoothing', inputs: [normal(f32(3, 5)), targets([4, 1, IGNORED])], attrs: { labelSmoothing: 0.1 } },
    {
      title: 'nothing trained',
      inputs: [normal(f32(2, 3)), targets([IGNORED, IGNORED])],
      attrs: { labelSmoothing: 0 },
    },
    {
      title: 'large logits',
      inputs: [{ type: f32(3, 4), range: [-90, 90] }, targets([0, 1, 2])],
      attrs: { labelSmoothing: 0 },
      forwardOnly: true,
    },
  ],
})

const targets = (list: readonly number[]): SampleInput => values(i32(list.length), list)

const crossEntropyBackwardDef = defineOp<CrossEntropyAttrs>({
  name: 'crossEntropyBackward',
  infer(inputs) {
    arity('crossEntropyBackward', inputs, 3)
    return [at(inputs, 1)]
  },
  reference([dLoss, logits, targets], { labelSmoothing }) {
    const vocabulary = logits.length / targets.length
    const d = new Float64Array(logits.length)
    targets.forEach((target, row) => {
      const rowLogits = logits.subarray(row * vocabulary, (row + 1) * vocabulary)
      d.set(backwardRow(rowLogits, target, dLoss[row], labelSmoothing), row * vocabulary)
    })
    return [d]
  },
  vjp: { nonDifferentiable: 'second derivatives are not needed to train' },
  samples: () => [
    {
      title: 'with ignored rows',
      inputs: [normal(f32(4)), normal(f32(4, 7)), targets([3, IGNORED, 0, 6])],
      attrs: { labelSmoothing: 0.2 },
    },
  ],
})

function rowLogits(h: Float64Array, w: Float64Array, row: number, width: number): Float64Array {
  const logits = new Float64Array(w.length / width)
  for (let j = 0; j < logits.length; j++) {
    for (let i = 0; i < width; i++) logits[j] += h[row * width + i] * w[j * width + i]
  }
  return logits
}

function checkHead(op: string, inputs: readonly TensorType[], [h, w, targets]: readonly TensorType[]): void {
  expect(
    h.shape.length === 2 && w.shape.length === 2 && h.shape[1] === w.shape[1],
    op,
    'takes h[rows, width], w[vocabulary, width]',
    inputs,
  )
  expect(
    isFloat(h.dtype) && (w.dtype === h.dtype || w.dtype === 'nf4'),
    op,
    'the weight must be nf4 or of the dtype of h',
    inputs,
  )
  checkTargets(op, inputs, h.shape[0], targets)
}

/** The language-model head and its loss as one op, so that a backend never holds logits of rows that are not trained. */
const linearCrossEntropyDef = defineOp<CrossEntropyAttrs>({
  name: 'linearCrossEntropy',
  infer(inputs) {
    arity('linearCrossEntropy', inputs, 3)
    checkHead('linearCrossEntropy', inputs, inputs)
    const rows = at(inputs, 0).shape[0]
    return [f32(rows), f32(rows)]
  },
  reference([h, w, targets], { labelSmoothing }, types) {
    const width = at(types.inputs, 0).shape[1]
    return forwardRows((row) => rowLogits(h, w, row, width), targets, labelSmoothing)
  },
  vjp({ inputs: [h, w, targets], attrs, cotangents: [dLoss], needs }) {
    if (!dLoss) return [null, null, null]
    if (!needs[1]) return [emit(linearCrossEntropyBackwardDef, [dLoss, h, w, targets], attrs), null, null]
    const dLogits = cast(emit(crossEntropyBackwardDef, [dLoss, linear(h, w), targets], attrs), h.dtype)
    return [
      needs[0] ? linear(dLogits, w, { transposeWeight: false }) : null,
      matmul(dLogits, h, { transposeA: true }),
      null,
    ]
  },
  samples: () => [
    {
      title: 'with ignored rows',
      inputs: [normal(f32(5, 4)), normal(f32(7, 4)), targets([3, IGNORED, 0, 6, IGNORED])],
      attrs: { labelSmoothing: 0 },
    },
    {
      title: 'a frozen head',
      inputs: [normal(f32(3, 4)), { ...normal(f32(6, 4)), frozen: true }, targets([5, 0, IGNORED])],
      attrs: { labelSmoothing: 0.1 },
    },
    {
      title: 'an nf4 head',
      inputs: [normal(f32(3, 32)), normal(nf4([6, 32])), targets([5, IGNORED, 2])],
      attrs: { labelSmoothing: 0 },
    },
    {
      title: 'nothing trained',
      inputs: [normal(f32(2, 4)), { ...normal(f32(3, 4)), frozen: true }, targets([IGNORED, IGNORED])],
      attrs: { labelSmoothing: 0 },
    },
  ],
})

const linearCrossEntropyBackwardDef = defineOp<CrossEntropyAttrs>({
  name: 'linearCrossEntropyBackward',
  infer(inputs) {
    arity('linearCrossEntropyBackward', inputs, 4)
    checkHead('linearCrossEntropyBackward', inputs, inputs.slice(1))
    return [at(inputs, 1)]
  },
  reference([dLoss, h, w, targets], { labelSmoothing }, types) {
    const width = at(types.inputs, 1).shape[1]
    const dh = new Float64Array(sizeOf(at(types.inputs, 1).shape))
    targets.forEach((target, row) => {
      const d = backwardRow(rowLogits(h, w, row, width), target, dLoss[row], labelSmoothing)
      for (let i = 0; i < width; i++) {
        for (let j = 0; j < d.length; j++) dh[row * width + i] += d[j] * w[j * width + i]
      }
    })
    return [dh]
  },
  vjp: { nonDifferentiable: 'second derivatives are not needed to train' },
  samples: () => [
    {
      title: 'with ignored rows',
      inputs: [normal(f32(4)), normal(f32(4, 5)), normal(f32(7, 5)), targets([3, IGNORED, 0, 6])],
      attrs: { labelSmoothing: 0 },
    },
  ],
})

export const lossOps = {
  crossEntropy: crossEntropyDef,
  crossEntropyBackward: crossEntropyBackwardDef,
  linearCrossEntropy: linearCrossEntropyDef,
  linearCrossEntropyBackward: linearCrossEntropyBackwardDef,
} as const

/** Per-row results of a loss: `loss` (0 where ignored) and `correct` (1 where no logit exceeds the target's), f32[rows]. */
export interface RowLoss {
  readonly loss: Value
  readonly correct: Value
}

/** Cross-entropy of logits[rows, vocabulary] with targets i32[rows], -100 ignored; not reduced. */
export function crossEntropy(logits: Value, targetIds: Value, o: Partial<CrossEntropyAttrs> = {}): RowLoss {
  const outputs = emitAll(crossEntropyDef, [logits, targetIds], { labelSmoothing: o.labelSmoothing ?? 0 })
  return { loss: at(outputs, 0), correct: at(outputs, 1) }
}

/** `crossEntropy(h wᵀ, targets)` for h[rows, width] and w[vocabulary, width] without holding more logits than trained rows. */
export function linearCrossEntropy(h: Value, w: Value, targetIds: Value, o: Partial<CrossEntropyAttrs> = {}): RowLoss {
  const outputs = emitAll(linearCrossEntropyDef, [h, w, targetIds], { labelSmoothing: o.labelSmoothing ?? 0 })
  return { loss: at(outputs, 0), correct: at(outputs, 1) }
}
