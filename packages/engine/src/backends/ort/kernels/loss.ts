import { IGNORED, type CrossEntropyAttrs } from '../../../ops/loss.js'
import type { ReferenceTypes } from '../../../ops/define.js'
import type { LowerContext } from '../lower.js'
import { denseWeight } from './quant.js'

type Names = readonly string[]

interface TrainedRows {
  /** The positions whose logits are computed, int64: those that are trained, and the first for the runtime cannot reduce nothing. */
  readonly rows: string
  /** Their targets, 0 for the first where it is ignored. */
  readonly trained: string
  /** 1 where the position is trained, else 0. */
  readonly counts: string
}

/** Logits of other positions are never computed. */
function trainedRows(ctx: LowerContext, targets: string, count: number): TrainedRows {
  const { onnx } = ctx
  const isTrained = ctx.keep(`isTrained:${targets}`, () =>
    onnx.node('Not', [onnx.node('Equal', [targets, onnx.int32(IGNORED)])]),
  )
  const rows = ctx.keep(`rows:${targets}`, () => {
    const first = onnx.table('bool', [count], 'first', () =>
      Uint8Array.from({ length: count }, (_, i) => (i === 0 ? 1 : 0)),
    )
    return onnx.reshape(onnx.node('NonZero', [onnx.node('Or', [isTrained, first])]), [-1])
  })
  const gather = (x: string) => onnx.node('Gather', [x, rows])
  return {
    rows,
    trained: ctx.keep(`trained:${targets}`, () => onnx.node('Max', [gather(targets), onnx.int32(0)])),
    counts: ctx.keep(`counts:${targets}`, () => onnx.cast(gather(isTrained), 'float32')),
  }
}

/** Spreads values of the trained rows over all rows, zero elsewhere. */
function scatterRows(ctx: LowerContext, values: string, rows: string, shape: readonly number[]): string {
  const { onnx } = ctx
  const indices = ctx.keep(`indices:${rows}`, () => onnx.reshape(rows, [-1, 1]))
  return onnx.node('ScatterND', [onnx.filled(shape, 0), indices, values])
}

/** The cotangent of each computed row's loss, as a column. */
function lossScale({ onnx }: LowerContext, dLoss: string, { rows, counts }: TrainedRows): string {
  return onnx.reshape(onnx.node('Mul', [onnx.node('Gather', [dLoss, rows]), counts]), [-1, 1])
}

/**
 * The softmax of rows, not yet divided: with the largest logit taken off first the runtime can compute the exponentials
 * in the memory of the logits, which are the largest tensor of a training step.
 */
interface Softmax {
  readonly logits: string
  /** The largest logit, [trained, 1]. */
  readonly top: string
  /** exp(logits - top). */
  readonly exps: string
  /** The sum of `exps`, [trained, 1]. */
  readonly total: string
}

function softmaxOf(ctx: LowerContext, logits: string): Softmax {
  const { onnx } = ctx
  const reduce = (op: string, x: string) => () => onnx.node(op, [x, onnx.int64s([-1])], { keepdims: 1 })
  const top = ctx.keep(`top:${logits}`, reduce('ReduceMax', logits))
  const exps = ctx.keep(`exps:${logits}`, () => onnx.node('Exp', [onnx.node('Sub', [logits, top])]))
  return { logits, top, exps, total: ctx.keep(`total:${logits}`, reduce('ReduceSum', exps)) }
}

/** Loss and correctness per row; `target` is the logit of the target, [trained]. The loss is top + log(total) - target. */
function rowResults(
  ctx: LowerContext,
  { logits, top, total }: Softmax,
  target: string,
  targets: string,
  count: number,
  { labelSmoothing: e }: CrossEntropyAttrs,
): string[] {
  const { onnx } = ctx
  const { rows, trained, counts } = trainedRows(ctx, targets, count)
  const logTotal = onnx.reshape(onnx.node('Add', [top, onnx.node('Log', [total])]), [-1])
  const weighted = (x: string, weight: number) => onnx.node('Mul', [x, onnx.float(weight)])
  const mean = () => onnx.node('ReduceMean', [logits, onnx.int64s([-1])], { keepdims: 0 })
  const explained = e === 0 ? target : onnx.node('Add', [weighted(target, 1 - e), weighted(mean(), e)])
  const loss = onnx.node('Sub', [logTotal, explained])
  const own = onnx.node('GatherElements', [logits, onnx.reshape(trained, [-1, 1])], { axis: 1 })
  const correct = onnx.cast(onnx.reshape(onnx.node('Equal', [own, top]), [-1]), 'float32')
  const spread = (x: string) => scatterRows(ctx, onnx.node('Mul', [x, counts]), rows, [count])
  return [spread(loss), spread(correct)]
}

/** Logits of the trained rows of h wᵀ, and what both passes derive from them. */
function headRows(
  ctx: LowerContext,
  [h, w, targets]: Names,
  types: ReferenceTypes['inputs'],
): { softmax: Softmax; target: string; weight: string } {
  const { onnx } = ctx
  const { rows, trained } = trainedRows(ctx, targets, types[2].shape[0])
  const weight = ctx.keep(`head:${w}`, () => denseWeight(ctx, w, types[1]))
  const key = `${h}:${w}:${targets}`
  const hidden = ctx.keep(`hidden:${key}`, () => onnx.node('Gather', [h, rows]))
  const logits = ctx.keep(`logits:${key}`, () => onnx.matmul(hidden, weight, { transB: true }))
  const softmax = softmaxOf(ctx, logits)
  const target = ctx.keep(`target:${key}`, () => {
    const products = onnx.node('Mul', [hidden, onnx.node('Gather', [weight, trained])])
    return onnx.node('ReduceSum', [products, onnx.int64s([-1])], { keepdims: 0 })
  })
  return { softmax, target, weight }
}

export const lossKernels = {
  crossEntropy(ctx: LowerContext, [logits, targets]: Names, attrs: CrossEntropyAttrs, types: ReferenceTypes) {
    const { onnx } = ctx
    const { rows, trained } = trainedRows(ctx, targets, types.inputs[1].shape[0])
    const own = onnx.node('Gather', [logits, rows])
    const index = onnx.reshape(trained, [-1, 1])
    const target = onnx.reshape(onnx.node('GatherElements', [own, index], { axis: 1 }), [-1])
    return rowResults(ctx, softmaxOf(ctx, own), target, targets, types.inputs[1].shape[0], attrs)
  },
  /** (p - (1 - e) onehot - e / vocabulary) dloss on the trained rows. */
  crossEntropyBackward(
    ctx: LowerContext,
    [dLoss, logits, targets]: Names,
    { labelSmoothing: e }: CrossEntropyAttrs,
    types: ReferenceTypes,
  ) {
    const { onnx } = ctx
    const { shape } = types.inputs[1]
    const computed = trainedRows(ctx, targets, shape[0])
    const { rows, trained } = computed
    const p = onnx.node('Softmax', [onnx.node('Gather', [logits, rows])], { axis: -1 })
    const range = onnx.table('int32', [shape[1]], 'range', () => Int32Array.from({ length: shape[1] }, (_, i) => i))
    const oneHot = onnx.cast(onnx.node('Equal', [onnx.reshape(trained, [-1, 1]), range]), 'float32')
    const target = onnx.node('Add', [onnx.node('Mul', [oneHot, onnx.float(1 - e)]), onnx.float(e / shape[1])])
    const scale = lossScale(ctx, dLoss, computed)
    return [scatterRows(ctx, onnx.node('Mul', [onnx.node('Sub', [p, target]), scale]), rows, shape)]
  },
  linearCrossEntropy(ctx: LowerContext, inputs: Names, attrs: CrossEntropyAttrs, types: ReferenceTypes) {
    const { softmax, target } = headRows(ctx, inputs, types.inputs)
    return rowResults(ctx, softmax, target, inputs[2], types.inputs[2].shape[0], attrs)
  },
  /** dh = dloss (p w - (1 - e) w[target] - e mean(w)): the one-hot product is a row lookup. */
  linearCrossEntropyBackward(
    ctx: LowerContext,
    [dLoss, ...head]: Names,
    { labelSmoothing: e }: CrossEntropyAttrs,
    types: ReferenceTypes,
  ) {
    const { onnx } = ctx
    const computed = trainedRows(ctx, head[2], types.inputs[3].shape[0])
    const { rows, trained } = computed
    const { softmax, weight } = headRows(ctx, head, types.inputs.slice(1))
    const product = onnx.node('Div', [onnx.matmul(softmax.exps, weight), softmax.total])
    const own = onnx.node('Gather', [weight, trained])
    const mean = () => onnx.node('ReduceMean', [weight, onnx.int64s([0])], { keepdims: 1 })
    const target =
      e === 0
        ? own
        : onnx.node('Add', [onnx.node('Mul', [own, onnx.float(1 - e)]), onnx.node('Mul', [mean(), onnx.float(e)])])
    const scale = lossScale(ctx, dLoss, computed)
    const dh = onnx.node('Mul', [onnx.node('Sub', [product, target]), scale])
    return [scatterRows(ctx, dh, rows, types.outputs[0].shape)]
  },
}
