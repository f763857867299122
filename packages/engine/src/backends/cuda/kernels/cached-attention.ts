import type { AttentionAttrs } from '../../../ops/attention.js'
import { input, output } from '../command.js'
import type { CudaKernel } from '../lower.js'
import { shapeArg } from './attention.js'
import { cType } from './launch.js'

const THREADS = 512

const cachedAttention: CudaKernel<AttentionAttrs> = (ctx, node) => {
  const [q, k] = node.inputs
  const [batch, tokens, heads] = q.type.shape
  ctx.launch({
    source: { file: 'cached-attention', defines: { T: cType(q.type.dtype) } },
    entry: 'cachedAttention',
    grid: [batch * tokens * heads, 1, 1],
    block: THREADS,
    args: [
      output(ctx.alloc(node)),
      ...node.inputs.map((operand) => input(operand.ref)),
      shapeArg(q.type, k.type, node.attrs),
    ],
  })
}

export const cachedAttentionKernels = { cachedAttention }
