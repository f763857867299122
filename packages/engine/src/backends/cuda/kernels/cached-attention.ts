import { EngineError } from '../../../errors.js'
import type { AttentionAttrs } from '../../../ops/attention.js'
import { input, output } from '../command.js'
import type { CudaKernel } from '../lower.js'
import { shapeArg } from './attention.js'
import { cType } from './launch.js'

const THREADS = 512

/** Elements of a head on each of 32 lanes, as a power of two so that a lane loads them at once. */
function perLane(headDim: number): number {
  const [fits] = [1, 2, 4, 8].filter((n) => n * 32 >= headDim)
  if (fits === undefined)
    throw new EngineError(`cuda cachedAttention: the head size must be at most 256, got ${headDim}`)
  return fits
}

const cachedAttention: CudaKernel<AttentionAttrs> = (ctx, node) => {
  const [q, k] = node.inputs
  const [batch, tokens, heads, headDim] = q.type.shape
  ctx.launch({
    source: { file: 'cached-attention', defines: { T: cType(q.type.dtype), PER_LANE: perLane(headDim) } },
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
