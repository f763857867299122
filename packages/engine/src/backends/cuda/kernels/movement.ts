import { byteSize, sizeOf, stridesOf, type Shape } from '../../../ir/tensor-type.js'
import type { AttrsOf } from '../../../ops/index.js'
import { i32, input, ints, output, type Ref } from '../command.js'
import { wordOf, type CudaKernel, type Emitter, type NodeOutputs } from '../lower.js'
import { BLOCK, blocksFor, broadcastStrides, padded } from './launch.js'

const reshape: CudaKernel<AttrsOf<'reshape'>> = (ctx, node) => {
  const [x] = node.inputs
  const [out] = node.outputs
  ctx.define(out.id, out.type, x.ref, { pitch: x.pitch })
}

/** y[index] = x[index * strides]. */
function gather(ctx: Emitter, node: NodeOutputs, from: Ref, shape: Shape, strides: readonly number[]): void {
  const n = sizeOf(shape)
  ctx.launch({
    source: { file: 'movement', defines: { T: wordOf(node.outputs[0].type.dtype) } },
    entry: 'gather',
    grid: blocksFor(n),
    block: BLOCK,
    args: [output(ctx.alloc(node)), input(from), i32(n), ints([shape.length, ...padded(shape), ...padded(strides)])],
  })
}

const transpose: CudaKernel<AttrsOf<'transpose'>> = (ctx, node) => {
  const [x] = node.inputs
  const strides = stridesOf(x.type.shape)
  gather(
    ctx,
    node,
    x.ref,
    node.outputs[0].type.shape,
    node.attrs.perm.map((axis) => strides[axis]),
  )
}

const broadcastTo: CudaKernel<AttrsOf<'broadcastTo'>> = (ctx, node) => {
  const [x] = node.inputs
  const { shape } = node.outputs[0].type
  gather(ctx, node, x.ref, shape, broadcastStrides(shape, x.type.shape))
}

/** A part that is contiguous and well aligned is a view. */
const slice: CudaKernel<AttrsOf<'slice'>> = (ctx, node) => {
  const [x] = node.inputs
  const [out] = node.outputs
  const { axis, start } = node.attrs
  const elementBytes = byteSize({ dtype: x.type.dtype, shape: [] })
  const offset = x.ref.offset + start * stridesOf(x.type.shape)[axis] * elementBytes
  const from = { buffer: x.ref.buffer, offset }
  if (sizeOf(x.type.shape.slice(0, axis)) === 1 && offset % 16 === 0) ctx.define(out.id, out.type, from)
  else gather(ctx, node, from, out.type.shape, stridesOf(x.type.shape))
}

const concat: CudaKernel<AttrsOf<'concat'>> = (ctx, node) => {
  const [out] = node.outputs
  const { axis } = node.attrs
  const y = ctx.alloc(node)
  const stride = sizeOf(out.type.shape.slice(axis))
  let start = 0
  for (const x of node.inputs) {
    const n = sizeOf(x.type.shape)
    const width = sizeOf(x.type.shape.slice(axis))
    ctx.launch({
      source: { file: 'movement', defines: { T: wordOf(out.type.dtype) } },
      entry: 'place',
      grid: blocksFor(n),
      block: BLOCK,
      args: [output(y), input(x.ref), i32(n), i32(width), i32(stride), i32(start)],
    })
    start += width
  }
}

export const movementKernels = { reshape, transpose, broadcastTo, slice, concat }
