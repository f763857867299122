import { EngineError } from '../../../errors.js'
import type { AttentionAttrs } from '../../../ops/attention.js'
import { sizeOf, type TensorType } from '../../../ir/tensor-type.js'
import { input, output, type Arg, type Ref } from '../command.js'
import { flashLaunches, type TileLaunch } from './flash-shapes.js'
import type { CudaKernel, Emitter } from '../lower.js'
import { cType } from './launch.js'

/** Largest head of attention.cu: eight elements on each of 32 lanes. */
const MAX_HEAD = 256
const WARPS_PER_BLOCK = 4

/** The `Shape` struct of the attention kernels. */
export function shapeArg(q: TensorType, kv: TensorType, { scale, slidingWindow }: AttentionAttrs): Arg {
  const [batch, tokens, heads, headDim] = q.shape
  const words = [batch, tokens, heads, kv.shape[2], headDim, slidingWindow].map((value) => ({
    type: 'i32' as const,
    value,
  }))
  return { kind: 'struct', words: [...words, { type: 'f32', value: scale }] }
}

interface Call {
  readonly entry: string
  readonly outputs: readonly Ref[]
  readonly inputs: readonly (Ref | null)[]
  readonly shape: Arg
}

/** One warp per row of the first input tensor's heads. */
function emitRows(ctx: Emitter, call: Call, type: TensorType): void {
  const [batch, tokens, heads, headDim] = type.shape
  if (headDim > MAX_HEAD)
    throw new EngineError(`cuda attention: the head size must be at most ${MAX_HEAD}, got ${headDim}`)
  ctx.launch({
    source: { file: 'attention', defines: { T: cType(type.dtype) } },
    entry: call.entry,
    grid: [Math.ceil((batch * tokens * heads) / WARPS_PER_BLOCK), 1, 1],
    block: WARPS_PER_BLOCK * 32,
    args: [...call.outputs.map((ref) => output(ref)), ...call.inputs.map((ref) => input(ref)), call.shape],
  })
}

function emitTiles(ctx: Emitter, call: Call, tiles: TileLaunch): void {
  const args = [...call.outputs.map((ref) => output(ref)), ...call.inputs.map((ref) => input(ref)), call.shape]
  ctx.launch({ ...tiles, entry: call.entry, args })
}

const attention: CudaKernel<AttentionAttrs> = (ctx, node) => {
  const [q, k, v, segments] = node.inputs
  const [o, lse] = [ctx.alloc(node), ctx.alloc(node, 1)]
  const inputs = [q.ref, k.ref, v.ref, segments?.ref ?? null]
  const shape = shapeArg(q.type, k.type, node.attrs)
  const flash = flashLaunches(q.type, k.type, node.attrs.scale, ctx.options.architecture)
  if (flash) emitTiles(ctx, { entry: 'flashForward', outputs: [o, lse], inputs, shape }, flash.forward)
  else emitRows(ctx, { entry: 'attention', outputs: [o, lse], inputs, shape }, q.type)
}

const attentionBackward: CudaKernel<AttentionAttrs> = (ctx, node) => {
  const [dO, q, k, v, o, lse, segments] = node.inputs
  const [dQ, dK, dV] = [0, 1, 2].map((index) => ctx.alloc(node, index))
  const delta = ctx.scratch(sizeOf(lse.type.shape) * 4)
  const shape = shapeArg(q.type, k.type, node.attrs)
  const inputs = [dO.ref, q.ref, k.ref, v.ref, lse.ref, delta, segments?.ref ?? null]
  const flash = flashLaunches(q.type, k.type, node.attrs.scale, ctx.options.architecture)
  const deltaCall = { entry: flash ? 'flashDelta' : 'attentionDelta', outputs: [delta], inputs: [dO.ref, o.ref], shape }
  if (flash) {
    emitTiles(ctx, deltaCall, flash.delta)
    emitTiles(ctx, { entry: 'flashBackwardKV', outputs: [dK, dV], inputs, shape }, flash.backwardKV)
    emitTiles(ctx, { entry: 'flashBackwardQ', outputs: [dQ], inputs, shape }, flash.backwardQ)
    return
  }
  emitRows(ctx, deltaCall, q.type)
  emitRows(ctx, { entry: 'attentionBackwardQ', outputs: [dQ], inputs, shape }, q.type)
  emitRows(ctx, { entry: 'attentionBackwardKV', outputs: [dK, dV], inputs, shape }, k.type)
}

export const attentionKernels = { attention, attentionBackward }
