import { internal } from '../../../errors.js'
import { byteSize, sizeOf, type DType } from '../../../ir/tensor-type.js'
import type { AttrsOf } from '../../../ops/index.js'
import { i32, input, output, type Launch, type Ref } from '../command.js'
import type { CudaKernel, Emitter, Operand } from '../lower.js'
import { BLOCK, cType } from './launch.js'

/** Blocks per multiprocessor: enough loads in flight to run at the speed of memory. */
const BLOCKS_PER_PROCESSOR = 8

/** Dequantizes `n` values in blocks of `blockSize` (a power of two). */
export function dequantizeLaunch(
  to: Ref,
  from: { readonly codes: Ref; readonly absmax: Ref },
  o: { n: number; blockSize: number; dtype: DType; multiprocessors: number },
): Omit<Launch, 'kind' | 'sharedBytes'> {
  const blocks = Math.max(1, Math.ceil(o.n / 8 / BLOCK))
  return {
    source: { file: 'quant', defines: { T: cType(o.dtype) } },
    entry: 'dequantize',
    grid: [Math.min(blocks, o.multiprocessors * BLOCKS_PER_PROCESSOR), 1, 1],
    block: BLOCK,
    args: [output(to), input(from.codes), input(from.absmax), i32(o.n), i32(Math.log2(o.blockSize))],
  }
}

const dequantize: CudaKernel<AttrsOf<'dequantize'>> = (ctx, node) => {
  const [w] = node.inputs
  if (!w.nf4) throw internal('dequantize of a dense value')
  const { multiprocessors } = ctx.options
  const to = ctx.alloc(node)
  const blockSize = w.type.blockSize ?? 64
  ctx.launch(dequantizeLaunch(to, w.nf4, { n: sizeOf(w.type.shape), blockSize, dtype: 'f32', multiprocessors }))
}

/**
 * The values of a weight as a dense matrix of `dtype`: the weight itself, its resident copy, or scratch memory that is
 * filled right before its use.
 */
export function denseWeight(ctx: Emitter, w: Operand, dtype: DType): Ref {
  if (!w.nf4) return w.ref
  const type = { dtype, shape: w.type.shape }
  if (ctx.options.nf4 === 'resident') return ctx.external({ name: w.nf4.name, part: 'dense', type, role: 'constant' })
  const to = ctx.scratch(byteSize(type))
  const { multiprocessors } = ctx.options
  const blockSize = w.type.blockSize ?? 64
  ctx.launch(dequantizeLaunch(to, w.nf4, { n: sizeOf(w.type.shape), blockSize, dtype, multiprocessors }))
  return to
}

export const quantKernels = { dequantize }
