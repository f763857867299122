import { sizeOf } from '../../../ir/tensor-type.js'
import type { AttrsOf } from '../../../ops/index.js'
import { dropoutThreshold } from '../../../ops/random.js'
import { f32, i32, input, output, u32 } from '../command.js'
import type { CudaKernel } from '../lower.js'
import { BLOCK, blocksFor, cType, packSize } from './launch.js'

const dropout: CudaKernel<AttrsOf<'dropout'>> = (ctx, node) => {
  const [x, seed] = node.inputs
  const { p, stream } = node.attrs
  const n = sizeOf(x.type.shape)
  const y = ctx.alloc(node)
  ctx.launch(
    {
      source: { file: 'random', defines: { T: cType(x.type.dtype) } },
      entry: 'dropout',
      grid: blocksFor(n, packSize(x.type.dtype)),
      block: BLOCK,
      args: [output(y), input(x.ref), input(seed.ref), i32(n), u32(stream), u32(dropoutThreshold(p)), f32(1 / (1 - p))],
    },
    [[y, x.ref]],
  )
}

export const randomKernels = { dropout }
