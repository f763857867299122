import { sizeOf } from '../../../ir/tensor-type.js'
import type { AttrsOf } from '../../../ops/index.js'
import { f32, i32, input, output } from '../command.js'
import type { CudaKernel } from '../lower.js'
import { BLOCK, blocksFor } from './launch.js'

const adamwStep: CudaKernel<AttrsOf<'adamwStep'>> = (ctx, node) => {
  const [p, , m, v] = node.inputs
  const { beta1, beta2, eps, weightDecay } = node.attrs
  const n = sizeOf(p.type.shape)
  const outputs = [0, 1, 2].map((index) => ctx.alloc(node, index))
  ctx.launch(
    {
      source: { file: 'optim', defines: {} },
      entry: 'adamwStep',
      grid: blocksFor(n),
      block: BLOCK,
      args: [
        ...outputs.map((ref) => output(ref)),
        ...node.inputs.map((operand) => input(operand.ref)),
        i32(n),
        ...[beta1, 1 - beta1, beta2, 1 - beta2, eps, weightDecay].map(f32),
      ],
    },
    [p, m, v].map((operand, i) => [outputs[i], operand.ref] as const),
  )
}

export const optimKernels = { adamwStep }
