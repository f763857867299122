import { sizeOf } from '../../../ir/tensor-type.js'
import type { AttrsOf } from '../../../ops/index.js'
import { i32, input, output } from '../command.js'
import type { CudaKernel } from '../lower.js'
import { BLOCK, cType } from './launch.js'

const embedding: CudaKernel<AttrsOf<'embedding'>> = (ctx, node) => {
  const [table, ids] = node.inputs
  ctx.launch({
    source: { file: 'embedding', defines: { T: cType(table.type.dtype) } },
    entry: 'embedding',
    grid: [sizeOf(ids.type.shape), 1, 1],
    block: BLOCK,
    args: [output(ctx.alloc(node)), input(table.ref), input(ids.ref), i32(table.type.shape[1])],
  })
}

const embeddingBackward: CudaKernel<AttrsOf<'embeddingBackward'>> = (ctx, node) => {
  const [dy, ids] = node.inputs
  const { dtype, shape } = node.outputs[0].type
  ctx.launch({
    source: { file: 'embedding', defines: { T: cType(dtype) } },
    entry: 'embeddingBackward',
    grid: [shape[0], 1, 1],
    block: BLOCK,
    args: [output(ctx.alloc(node)), input(dy.ref), input(ids.ref), i32(sizeOf(ids.type.shape)), i32(shape[1])],
  })
}

export const embeddingKernels = { embedding, embeddingBackward }
