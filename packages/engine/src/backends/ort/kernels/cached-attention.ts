import type { AttentionAttrs } from '../../../ops/attention.js'
import type { ReferenceTypes } from '../../../ops/define.js'
import type { LowerContext } from '../lower.js'
import { headsOf, joinQueries, MASKED, splitQueries, swapHeads } from './attention.js'

/** Masks of the cache rows [batch, 1, 1, tokens, filled] and of the new tokens [tokens, tokens]. */
function masks(
  ctx: LowerContext,
  cache: string,
  lengths: string,
  batch: number,
  tokens: number,
  window: number,
): [string, string] {
  const { onnx } = ctx
  const choose = (allowed: string) => onnx.node('Where', [allowed, onnx.float(0), onnx.float(MASKED)])
  const past = ctx.keep(`past:${lengths}:${tokens}:${window}`, () => {
    const filled = onnx.node('Gather', [onnx.node('Shape', [cache]), onnx.int64(0)])
    const rows = onnx.cast(onnx.node('Range', [onnx.int64(0), filled, onnx.int64(1)]), 'int32')
    const length = onnx.reshape(lengths, [batch, 1, 1, 1, 1])
    const present = onnx.node('Less', [rows, length])
    if (window === 0) return choose(onnx.node('Expand', [present, onnx.int64s([1, 1, 1, tokens, 1])]))
    const offsets = onnx.table('int32', [tokens, 1], `offsets:${window}`, () =>
      Int32Array.from({ length: tokens }, (_, s) => s - window),
    )
    return choose(onnx.node('And', [present, onnx.node('Greater', [rows, onnx.node('Add', [length, offsets])])]))
  })
  const fresh = ctx.keep(`fresh:${tokens}:${window}`, () =>
    choose(
      onnx.table('bool', [tokens, tokens], `causal:${window}`, () =>
        Uint8Array.from({ length: tokens * tokens }, (_, i) => {
          const distance = Math.floor(i / tokens) - (i % tokens)
          return distance >= 0 && (window === 0 || distance < window) ? 1 : 0
        }),
      ),
    ),
  )
  return [past, fresh]
}

export const cachedAttentionKernels = {
  cachedAttention(
    ctx: LowerContext,
    inputs: readonly string[],
    { scale, slidingWindow }: AttentionAttrs,
    types: ReferenceTypes,
  ) {
    const { onnx } = ctx
    const [q, k, v, keyCache, valueCache, lengths] = inputs
    const h = headsOf(types.inputs[0].shape, types.inputs[1].shape[2])
    const [past, fresh] = masks(ctx, keyCache, lengths, h.batch, h.tokens, slidingWindow)
    const queries = splitQueries(onnx, q, h)
    const rows = h.group * h.tokens
    const newHeads = (x: string) =>
      h.tokens === 1 ? onnx.reshape(x, [h.batch, h.kvHeads, 1, h.headDim]) : swapHeads(onnx, x)
    const scores = (keys: string, mask: string | null, transBatchB: boolean) => {
      const product = onnx.matmul(queries, keys, { transB: true, transBatchB, alpha: scale })
      const folded = onnx.reshape(product, [h.batch, h.kvHeads, h.group, h.tokens, -1])
      return mask === null ? folded : onnx.node('Add', [folded, mask])
    }
    // One token sees itself: nothing to mask.
    const parts = [scores(keyCache, past, true), scores(newHeads(k), h.tokens === 1 ? null : fresh, false)]
    const p = onnx.node('Softmax', [onnx.node('Concat', parts, { axis: -1 })], { axis: -1 })
    const flat = onnx.reshape(p, [h.batch, h.kvHeads, rows, -1])
    const last = onnx.int64s([-1])
    const ofPast = onnx.node('Slice', [flat, onnx.int64s([0]), onnx.int64s([-h.tokens]), last])
    const ofFresh = onnx.node('Slice', [flat, onnx.int64s([-h.tokens]), onnx.int64s([2 ** 31]), last])
    const sum = onnx.node('Add', [
      onnx.matmul(ofPast, valueCache, { transBatchB: true }),
      onnx.matmul(ofFresh, newHeads(v)),
    ])
    return [joinQueries(onnx, sum, h)]
  },
}
