import { sizeOf } from '../../../ir/tensor-type.js'
import type { AttrsOf } from '../../../ops/index.js'
import { f32, i32, input, output } from '../command.js'
import type { CudaKernel } from '../lower.js'
import { BLOCK, blocksFor, cType, packSize } from './launch.js'

const rope: CudaKernel<AttrsOf<'rope'>> = (ctx, node) => {
  const [x, positions, cosines, sines] = node.inputs
  const { dtype, shape } = x.type
  const [, , heads, headDim] = shape
  const half = headDim / 2
  const pairs = sizeOf(shape) / 2
  const y = ctx.alloc(node)
  ctx.launch(
    {
      source: { file: 'rope', defines: { T: cType(dtype) } },
      entry: 'rope',
      grid: blocksFor(half % packSize(dtype) === 0 ? pairs / packSize(dtype) : pairs),
      block: BLOCK,
      args: [
        output(y),
        ...[x, positions, cosines, sines].map((operand) => input(operand.ref)),
        i32(pairs),
        i32(heads),
        i32(half),
        f32(node.attrs.inverse ? -1 : 1),
      ],
    },
    [[y, x.ref]],
  )
}

export const ropeKernels = { rope }
