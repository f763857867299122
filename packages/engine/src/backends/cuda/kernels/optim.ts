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
  const scalars = node.inputs.slice(4).map((operand) => input(operand.ref))
  const factors = [beta1, 1 - beta1, beta2, 1 - beta2, eps, weightDecay].map(f32)
  const row = [
    ...outputs.map((ref) => output(ref)),
    ...node.inputs.slice(0, 4).map((operand) => input(operand.ref)),
    i32(n),
  ]
  const rest = [...scalars, ...factors]
  ctx.launch(
    {
      source: { file: 'optim', defines: {} },
      entry: 'adamwStep',
      grid: blocksFor(n),
      block: BLOCK,
      args: [...row, ...rest],
      group: { entry: 'adamwStepGroup', row, rest },
    },
    [p, m, v].map((operand, i) => [outputs[i], operand.ref] as const),
  )
}

export const optimKernels = { adamwStep }
