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

/** Blocks from which the device is busy, and query heads can share the keys that a block reads. */
const BUSY = 128
/** Running sums that a lane can hold. */
const LANE_SUMS = 16

/** Query heads of a block: a power of two that divides the group of a key-value head. */
function headsPerBlock(group: number, lane: number, blocks: number): number {
  const choices = [8, 4, 2].filter((n) => group % n === 0 && n * lane <= LANE_SUMS)
  return blocks >= BUSY ? (choices[0] ?? 1) : 1
}

const cachedAttention: CudaKernel<AttentionAttrs> = (ctx, node) => {
  const [q, k] = node.inputs
  const [batch, tokens, heads, headDim] = q.type.shape
  const kvHeads = k.type.shape[2]
  const lane = perLane(headDim)
  const shared = headsPerBlock(heads / kvHeads, lane, batch * tokens * kvHeads)
  ctx.launch({
    source: { file: 'cached-attention', defines: { T: cType(q.type.dtype), PER_LANE: lane, HEADS: shared } },
    entry: 'cachedAttention',
    grid: [(batch * tokens * heads) / shared, 1, 1],
    block: THREADS,
    args: [
      output(ctx.alloc(node)),
      ...node.inputs.map((operand) => input(operand.ref)),
      shapeArg(q.type, k.type, node.attrs),
    ],
  })
}

export const cachedAttentionKernels = { cachedAttention }
