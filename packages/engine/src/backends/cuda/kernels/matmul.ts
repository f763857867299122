import { sizeOf, type Shape } from '../../../ir/tensor-type.js'
import type { AttrsOf } from '../../../ops/index.js'
import { f32, i32, input, output, type Arg, type GemmShape, type Ref } from '../command.js'
import { MATVEC_ROWS } from '../low-rank.js'
import type { CudaKernel, Emitter, LowRankView, NodeView, Operand } from '../lower.js'
import { cType } from './launch.js'
import { denseWeight } from './quant.js'

/** Rows from which tensor cores beat plain arithmetic on NF4 weights: 3.2 against 4.1 ms a token at one row, 8.6 against 4.4 at eight. */
const TENSOR_CORE_ROWS = 3
/** Outputs of a block in matvec.cu. */
const MATVEC_OUTPUTS = 4

/** y[m, n] = alpha x[m, k] op(W). */
interface Product {
  readonly m: number
  readonly n: number
  readonly k: number
  readonly alpha: number
}

const linear: CudaKernel<AttrsOf<'linear'>> = (ctx, node) => {
  const [x, w] = node.inputs
  const { transposeWeight } = node.attrs
  const [rows, wColumns] = w.type.shape
  const wRows = node.stackedRows ?? rows
  const [k, n] = transposeWeight ? [wColumns, wRows] : [wRows, wColumns]
  const p: Product = { m: sizeOf(x.type.shape) / widthOf(x), n, k, alpha: node.attrs.alpha * node.factor }
  if (canMatvec(node, p)) {
    emitMatvec(ctx, node, p)
    return
  }
  const b = denseWeight(ctx, w, x.type.dtype)
  const d = allocAll(ctx, node)
  const c = node.accumulate?.ref ?? null
  const ldd = node.outputs.length > 1 ? n : (ctx.operand(node.outputs[0].id).pitch ?? n)
  const shape = {
    ...{ m: p.m, n, k, transposeA: false, transposeB: transposeWeight, lda: x.pitch ?? k, ldb: wColumns, ldd },
    ...{ input: x.type.dtype, output: node.outputs[0].type.dtype, ...SINGLE },
  }
  ctx.gemm({ shape, a: x.ref, b, c, d, alpha: p.alpha })
  if (node.lowRank) emitLowRank(ctx, node.lowRank, shape, d)
}

const SINGLE = { batch: 1, strideA: 0, strideB: 0, strideD: 0 } as const

const widthOf = ({ type: { shape } }: Operand): number => shape[shape.length - 1]

/** The first output's memory; those of a stacked product follow it in each row. */
function allocAll(ctx: Emitter, node: NodeView<AttrsOf<'linear'>>): Ref {
  const [first] = node.outputs.map((_, i) => ctx.alloc(node, i))
  return first
}

/** Adds an adapter's product to the result of the base product. */
function emitLowRank(ctx: Emitter, { x, weight, alpha }: LowRankView, base: GemmShape, d: Ref): void {
  const k = widthOf(x)
  const shape: GemmShape = { ...base, k, transposeB: true, lda: x.pitch ?? k, ldb: k }
  ctx.gemm({ shape, a: x.ref, b: weight.ref, c: d, d, alpha })
}

/** The kernels take 16 bytes of weights per lane and load, within one block of scales. */
function canMatvec(node: NodeView<AttrsOf<'linear'>>, { m, k }: Product): boolean {
  const [x, w] = node.inputs
  const step = w.nf4 ? 32 : 8
  const sameTypes = node.outputs[0].type.dtype === x.type.dtype
  const aligned = x.ref.offset % 16 === 0 && w.ref.offset % 16 === 0 && x.pitch === null
  return node.attrs.transposeWeight && m <= MATVEC_ROWS && k % step === 0 && sameTypes && aligned
}

function emitMatvec(ctx: Emitter, node: NodeView<AttrsOf<'linear'>>, p: Product): void {
  const [x, w] = node.inputs
  const y = allocAll(ctx, node)
  const addend = node.accumulate?.ref ?? null
  const weight = w.nf4 ? [input(w.nf4.codes), input(w.nf4.absmax)] : [input(w.ref)]
  const sizes = [p.n, p.k, ...(w.nf4 ? [Math.log2(w.type.blockSize ?? 64)] : [])].map(i32)
  const operands = [output(y), input(x.ref), ...weight, input(addend)]
  const inPlace = addend ? [[y, addend] as const] : []
  const T = cType(x.type.dtype)
  const wholeBlocks = (w.type.blockSize ?? 64) >= 64 && p.k % 64 === 0
  const adapter = adapterArguments(node.lowRank)
  if (w.nf4 && x.type.dtype !== 'f32' && wholeBlocks && p.m >= TENSOR_CORE_ROWS) {
    const args = [...operands, i32(p.m), ...sizes, f32(p.alpha), ...adapter]
    const source = { file: 'nf4-matvec', defines: { T } }
    ctx.launch({ source, entry: 'nf4Matvec', grid: [Math.ceil(p.n / 16), 1, 1], block: 256, args }, inPlace)
    return
  }
  const args = [...operands, ...sizes, f32(p.alpha), ...adapter]
  const source = { file: 'matvec', defines: { T, ROWS: p.m } }
  const entry = w.nf4 ? 'matvec' : 'matvecDense'
  ctx.launch({ source, entry, grid: [Math.ceil(p.n / MATVEC_OUTPUTS), 1, 1], block: 128, args }, inPlace)
}

/** The last parameters of the matrix-vector kernels. */
function adapterArguments(adapter: LowRankView | null): Arg[] {
  const rank = adapter ? widthOf(adapter.x) : 0
  const pointers = [adapter?.x.ref ?? null, adapter?.weight.ref ?? null].map((ref) => input(ref))
  return [...pointers, i32(rank), i32(adapter?.x.pitch ?? rank), f32(adapter?.alpha ?? 0)]
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
  const [lda, ldb] = [a.pitch ?? (transposeA ? m : k), b.pitch ?? (transposeB ? k : n)]
  const shape: GemmShape = {
    ...{ m, n, k, transposeA, transposeB, lda, ldb, ldd: n },
    ...{ input: a.type.dtype, output: node.outputs[0].type.dtype },
    ...{ batch: sizeOf(a.type.shape.slice(0, -2)), strideA: m * k, strideB: k * n, strideD: m * n },
  }
  const c = node.accumulate?.ref ?? null
  ctx.gemm({ shape, a: a.ref, b: b.ref, c, d: ctx.alloc(node), alpha: alpha * node.factor })
}

export const matmulKernels = { linear, matmul }
