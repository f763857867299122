import { sizeOf } from '../../../ir/tensor-type.js'
import type { AttrsOf } from '../../../ops/index.js'
import { f32, i32, input, output } from '../command.js'
import type { CudaKernel } from '../lower.js'
import { BLOCK, cType } from './launch.js'

const rmsNorm: CudaKernel<AttrsOf<'rmsNorm'>> = (ctx, node) => {
  const [x, weight] = node.inputs
  const width = sizeOf(weight.type.shape)
  ctx.launch({
    source: { file: 'norm', defines: { T: cType(x.type.dtype) } },
    entry: 'rmsNorm',
    grid: [sizeOf(x.type.shape) / width, 1, 1],
    block: BLOCK,
    args: [
      output(ctx.alloc(node)),
      output(ctx.alloc(node, 1)),
      input(x.ref),
      input(weight.ref),
      i32(width),
      f32(node.attrs.eps),
    ],
  })
}

/** Adds the other branch's gradient on the way where the lowering folded it in. */
const rmsNormBackward: CudaKernel<AttrsOf<'rmsNormBackward'>> = (ctx, node) => {
  const [dy, x, weight, invRms] = node.inputs
  const width = sizeOf(weight.type.shape)
  const dx = ctx.alloc(node)
  const residual = node.accumulate?.ref ?? null
  ctx.launch(
    {
      source: { file: 'norm', defines: { T: cType(x.type.dtype) } },
      entry: 'rmsNormBackward',
      grid: [sizeOf(x.type.shape) / width, 1, 1],
      block: BLOCK,
      args: [
        output(dx),
        input(dy.ref),
        input(x.ref),
        input(weight.ref),
        input(invRms.ref),
        input(residual),
        i32(width),
      ],
    },
    [[dx, dy.ref], ...(residual ? [[dx, residual] as const] : [])],
  )
}

export const normKernels = { rmsNorm, rmsNormBackward }
