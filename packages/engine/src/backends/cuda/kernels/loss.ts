import { byteSize, type DType } from '../../../ir/tensor-type.js'
import type { AttrsOf } from '../../../ops/index.js'
import { f32, i32, input, output, type Ref } from '../command.js'
import type { CudaKernel, Emitter, Operand } from '../lower.js'
import { cType } from './launch.js'
import { denseWeight } from './quant.js'

const THREADS = 512
/** Bytes of f32 logits that exist at a time. */
const LOGITS_BYTES = 2 ** 26

interface Rows {
  readonly logits: Ref
  readonly dtype: DType
  readonly targets: Ref
  readonly rows: number
  readonly vocabulary: number
  readonly labelSmoothing: number
}

function emitLoss(ctx: Emitter, o: Rows, loss: Ref, correct: Ref): void {
  ctx.launch({
    source: { file: 'loss', defines: { T: cType(o.dtype), TGRAD: cType(o.dtype) } },
    entry: 'crossEntropy',
    grid: [o.rows, 1, 1],
    block: THREADS,
    args: [output(loss), output(correct), input(o.logits), input(o.targets), i32(o.vocabulary), f32(o.labelSmoothing)],
  })
}

function emitLossBackward(ctx: Emitter, o: Rows, dLoss: Ref, to: Ref, dtype: DType): void {
  ctx.launch({
    source: { file: 'loss', defines: { T: cType(o.dtype), TGRAD: cType(dtype) } },
    entry: 'crossEntropyBackward',
    grid: [o.rows, 1, 1],
    block: THREADS,
    args: [output(to), input(dLoss), input(o.logits), input(o.targets), i32(o.vocabulary), f32(o.labelSmoothing)],
  })
}

function rowsOf(logits: Operand, targets: Operand, labelSmoothing: number): Rows {
  const [rows, vocabulary] = logits.type.shape
  return { logits: logits.ref, dtype: logits.type.dtype, targets: targets.ref, rows, vocabulary, labelSmoothing }
}

const crossEntropy: CudaKernel<AttrsOf<'crossEntropy'>> = (ctx, node) => {
  const [logits, targets] = node.inputs
  emitLoss(ctx, rowsOf(logits, targets, node.attrs.labelSmoothing), ctx.alloc(node), ctx.alloc(node, 1))
}

const crossEntropyBackward: CudaKernel<AttrsOf<'crossEntropyBackward'>> = (ctx, node) => {
  const [dLoss, logits, targets] = node.inputs
  const rows = rowsOf(logits, targets, node.attrs.labelSmoothing)
  emitLossBackward(ctx, rows, dLoss.ref, ctx.alloc(node), logits.type.dtype)
}

const at = (ref: Ref, bytes: number): Ref => ({ buffer: ref.buffer, offset: ref.offset + bytes })

interface Head {
  readonly hidden: Operand
  readonly weight: Ref
  readonly vocabulary: number
  readonly width: number
}

/** Visits the rows in chunks whose f32 logits fit in LOGITS_BYTES; the logits live in one scratch buffer. */
function forChunks(
  ctx: Emitter,
  head: Head,
  targets: Ref,
  visit: (chunk: Omit<Rows, 'labelSmoothing'>, first: number) => void,
): void {
  const { hidden, vocabulary, width } = head
  const total = hidden.type.shape[0]
  const most = Math.min(total, Math.max(1, Math.floor(LOGITS_BYTES / 4 / vocabulary)))
  const even = Math.ceil(total / Math.ceil(total / most) / 16) * 16
  const logits = ctx.scratch(Math.min(even, total) * vocabulary * 4)
  for (let first = 0; first < total; first += even) {
    const rows = Math.min(even, total - first)
    const row = byteSize({ dtype: hidden.type.dtype, shape: [width] })
    ctx.gemm({
      shape: {
        ...{
          m: rows,
          n: vocabulary,
          k: width,
          transposeA: false,
          transposeB: true,
          lda: width,
          ldb: width,
          ldd: vocabulary,
        },
        ...{ input: hidden.type.dtype, output: 'f32', batch: 1, strideA: 0, strideB: 0, strideD: 0 },
      },
      ...{ a: at(hidden.ref, first * row), b: head.weight, c: null, d: logits, alpha: 1 },
    })
    visit({ logits, dtype: 'f32', targets: at(targets, first * 4), rows, vocabulary }, first)
  }
}

function headOf(ctx: Emitter, hidden: Operand, weight: Operand): Head {
  const [vocabulary, width] = weight.type.shape
  return { hidden, weight: denseWeight(ctx, weight, hidden.type.dtype), vocabulary, width }
}

/** Where the gradients of a chunk's logits go, as the operand of the product that makes the rows' gradients. */
function gradientScratch(ctx: Emitter, { hidden, vocabulary }: Head): Ref {
  const { dtype, shape } = hidden.type
  const rows = Math.min(shape[0], Math.floor(LOGITS_BYTES / 4 / vocabulary) + 16)
  return ctx.scratch(rows * vocabulary * byteSize({ dtype, shape: [] }))
}

/** Rows `first` and following of dHidden = dLogits W. */
function emitHiddenGradient(
  ctx: Emitter,
  head: Head,
  chunk: { dLogits: Ref; rows: number; first: number },
  dHidden: Ref,
): void {
  const { dtype } = head.hidden.type
  const { vocabulary, width } = head
  const sizes = { m: chunk.rows, n: width, k: vocabulary, lda: vocabulary, ldb: width, ldd: width }
  const to = at(dHidden, chunk.first * byteSize({ dtype, shape: [width] }))
  ctx.gemm({
    shape: {
      ...sizes,
      ...{
        transposeA: false,
        transposeB: false,
        input: dtype,
        output: dtype,
        batch: 1,
        strideA: 0,
        strideB: 0,
        strideD: 0,
      },
    },
    ...{ a: chunk.dLogits, b: head.weight, c: null, d: to, alpha: 1 },
  })
}

const linearCrossEntropy: CudaKernel<AttrsOf<'linearCrossEntropy'>> = (ctx, node) => {
  const [hidden, weight, targets] = node.inputs
  const [loss, correct] = [ctx.alloc(node), ctx.alloc(node, 1)]
  const { labelSmoothing } = node.attrs
  const head = headOf(ctx, hidden, weight)
  const { cotangent } = node
  if (cotangent === null) {
    forChunks(ctx, head, targets.ref, (chunk, first) => {
      emitLoss(ctx, { ...chunk, labelSmoothing }, at(loss, first * 4), at(correct, first * 4))
    })
    return
  }
  const dHidden = ctx.alloc(node, 2)
  const dLogits = gradientScratch(ctx, head)
  forChunks(ctx, head, targets.ref, (chunk, first) => {
    ctx.launch({
      source: { file: 'loss', defines: { T: cType(chunk.dtype), TGRAD: cType(hidden.type.dtype) } },
      entry: 'crossEntropyBoth',
      grid: [chunk.rows, 1, 1],
      block: THREADS,
      args: [
        ...[at(loss, first * 4), at(correct, first * 4), dLogits].map((ref) => output(ref)),
        ...[input(chunk.logits), input(chunk.targets), i32(chunk.vocabulary), f32(labelSmoothing), f32(cotangent)],
      ],
    })
    emitHiddenGradient(ctx, head, { dLogits, rows: chunk.rows, first }, dHidden)
  })
}

const linearCrossEntropyBackward: CudaKernel<AttrsOf<'linearCrossEntropyBackward'>> = (ctx, node) => {
  const [dLoss, hidden, weight, targets] = node.inputs
  const { labelSmoothing } = node.attrs
  const head = headOf(ctx, hidden, weight)
  const dHidden = ctx.alloc(node)
  const dLogits = gradientScratch(ctx, head)
  forChunks(ctx, head, targets.ref, (chunk, first) => {
    emitLossBackward(ctx, { ...chunk, labelSmoothing }, at(dLoss.ref, first * 4), dLogits, hidden.type.dtype)
    emitHiddenGradient(ctx, head, { dLogits, rows: chunk.rows, first }, dHidden)
  })
}

export const lossKernels = { crossEntropy, crossEntropyBackward, linearCrossEntropy, linearCrossEntropyBackward }
