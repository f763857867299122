import { sizeOf, type Shape } from '../../../ir/tensor-type.js'
import type { AttrsOf } from '../../../ops/index.js'
import { f32, i32, input, output, type GemmShape, type Launch, type Gemm } from '../command.js'
import type { CudaKernel, NodeView, Operand } from '../lower.js'
import { cType } from './launch.js'
import { denseWeight } from './quant.js'

/** Rows up to which an NF4 weight is read by the matrix-vector kernel; more rows dequantize it first. */
const MATVEC_ROWS = 8
/** Weights per lane and load, and outputs per block, of matvec.cu. */
const MATVEC_STEP = 32
const MATVEC_OUTPUTS = 8

const linear: CudaKernel<AttrsOf<'linear'>> = (ctx, node) => {
  const [x, w] = node.inputs
  const { transposeWeight } = node.attrs
  const [wRows, wColumns] = w.type.shape
  const [k, n] = transposeWeight ? [wColumns, wRows] : [wRows, wColumns]
  const m = sizeOf(x.type.shape) / k
  const alpha = node.attrs.alpha * node.factor
  const out = node.outputs[0].type
  if (w.nf4 && canMatvec(node, m, k)) {
    const y = ctx.alloc(node)
    const addend = node.accumulate?.ref ?? null
    ctx.launch(matvecLaunch(node, w, { y, addend, m, n, k, alpha }), addend ? [[y, addend]] : [])
    return
  }
  const b = denseWeight(ctx, w, x.type.dtype)
  const shape: GemmShape = {
    ...{ m, n, k, transposeA: false, transposeB: transposeWeight, lda: k, ldb: wColumns, ldd: n },
    ...{ input: x.type.dtype, output: out.dtype, batch: 1, strideA: 0, strideB: 0, strideD: 0 },
  }
  ctx.gemm({ shape, a: x.ref, b, c: node.accumulate?.ref ?? null, d: ctx.alloc(node), alpha })
}

function canMatvec(node: NodeView<AttrsOf<'linear'>>, rows: number, k: number): boolean {
  const [x, w] = node.inputs
  const block = w.type.blockSize ?? 64
  const sameTypes = node.outputs[0].type.dtype === x.type.dtype
  return node.attrs.transposeWeight && rows <= MATVEC_ROWS && k % MATVEC_STEP === 0 && block >= MATVEC_STEP && sameTypes
}

interface Matvec {
  readonly y: Gemm['d']
  readonly addend: Gemm['c']
  readonly m: number
  readonly n: number
  readonly k: number
  readonly alpha: number
}

function matvecLaunch(node: NodeView<AttrsOf<'linear'>>, w: Operand, o: Matvec): Omit<Launch, 'kind' | 'sharedBytes'> {
  const [x] = node.inputs
  return {
    source: { file: 'matvec', defines: { T: cType(x.type.dtype), ROWS: o.m } },
    entry: 'matvec',
    grid: [Math.ceil(o.n / MATVEC_OUTPUTS), 1, 1],
    block: 128,
    args: [
      output(o.y),
      input(x.ref),
      input(w.nf4?.codes ?? null),
      input(w.nf4?.absmax ?? null),
      input(o.addend),
      i32(o.n),
      i32(o.k),
      i32(Math.log2(w.type.blockSize ?? 64)),
      f32(o.alpha),
    ],
  }
}

/** The last two extents, as read. */
function axes(shape: Shape, transposed: boolean): [number, number] {
  const [rows, columns] = shape.slice(-2)
  return transposed ? [columns, rows] : [rows, columns]
}

const matmul: CudaKernel<AttrsOf<'matmul'>> = (ctx, node) => {
  const [a, b] = node.inputs
  const { transposeA, transposeB, alpha } = node.attrs
  const [m, k] = axes(a.type.shape, transposeA)
  const [, n] = axes(b.type.shape, transposeB)
  const shape: GemmShape = {
    ...{ m, n, k, transposeA, transposeB, lda: transposeA ? m : k, ldb: transposeB ? k : n, ldd: n },
    ...{ input: a.type.dtype, output: node.outputs[0].type.dtype },
    ...{ batch: sizeOf(a.type.shape.slice(0, -2)), strideA: m * k, strideB: k * n, strideD: m * n },
  }
  const c = node.accumulate?.ref ?? null
  ctx.gemm({ shape, a: a.ref, b: b.ref, c, d: ctx.alloc(node), alpha: alpha * node.factor })
}

export const matmulKernels = { linear, matmul }
