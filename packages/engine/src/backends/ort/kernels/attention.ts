import type { AttentionAttrs } from '../../../ops/attention.js'
import type { ReferenceTypes } from '../../../ops/define.js'
import type { LowerContext } from '../lower.js'
import type { OnnxBuilder } from '../onnx-builder.js'

type Names = readonly string[]

/** Added to the score of a pair that must not attend; finite, so that a row of them gives no NaN. */
export const MASKED = -1e9

interface Heads {
  readonly batch: number
  readonly tokens: number
  readonly kvHeads: number
  readonly group: number
  readonly headDim: number
}

export function headsOf(q: readonly number[], kvHeads: number): Heads {
  const [batch, tokens, heads, headDim] = q
  return { batch, tokens, kvHeads, group: heads / kvHeads, headDim }
}

/**
 * [batch, tokens, heads, headDim] to [batch, kvHeads, group * tokens, headDim]: the queries of a group share one product
 * with their keys, and the key's gradient sums over the group inside the product.
 */
export function splitQueries(onnx: OnnxBuilder, q: string, h: Heads): string {
  // With one token the order is the same already.
  if (h.tokens === 1) return onnx.reshape(q, [h.batch, h.kvHeads, h.group, h.headDim])
  const grouped = onnx.reshape(q, [h.batch, h.tokens, h.kvHeads, h.group, h.headDim])
  return onnx.reshape(onnx.transpose(grouped, [0, 2, 3, 1, 4]), [h.batch, h.kvHeads, h.group * h.tokens, h.headDim])
}

export function joinQueries(onnx: OnnxBuilder, q: string, h: Heads): string {
  if (h.tokens === 1) return onnx.reshape(q, [h.batch, 1, h.kvHeads * h.group, h.headDim])
  const grouped = onnx.reshape(q, [h.batch, h.kvHeads, h.group, h.tokens, h.headDim])
  return onnx.reshape(onnx.transpose(grouped, [0, 3, 1, 2, 4]), [h.batch, h.tokens, h.kvHeads * h.group, h.headDim])
}

/** [batch, tokens, kvHeads, headDim] to [batch, kvHeads, tokens, headDim], and back. */
export const swapHeads = (onnx: OnnxBuilder, x: string): string => onnx.transpose(x, [0, 2, 1, 3])

/** Which pairs of tokens may attend, as a table of the sequence alone. */
function causalTable(onnx: OnnxBuilder, tokens: number, window: number): string {
  return onnx.table('bool', [tokens, tokens], `causal:${window}`, () =>
    Uint8Array.from({ length: tokens * tokens }, (_, i) => {
      const distance = Math.floor(i / tokens) - (i % tokens)
      return distance >= 0 && (window === 0 || distance < window) ? 1 : 0
    }),
  )
}

/** The mask to add to scores [batch, kvHeads, group, tokens, tokens]. */
function maskOf(ctx: LowerContext, segments: string | undefined, h: Heads, window: number): string {
  const { onnx } = ctx
  return ctx.keep(`mask:${segments ?? ''}:${h.tokens}:${window}`, () => {
    const causal = causalTable(onnx, h.tokens, window)
    const choose = (allowed: string) => onnx.node('Where', [allowed, onnx.float(0), onnx.float(MASKED)])
    if (segments === undefined) return choose(causal)
    const rows = onnx.reshape(segments, [h.batch, 1, 1, h.tokens, 1])
    const columns = onnx.reshape(segments, [h.batch, 1, 1, 1, h.tokens])
    return choose(onnx.node('And', [onnx.node('Equal', [rows, columns]), causal]))
  })
}

export const attentionKernels = {
  attention(ctx: LowerContext, [q, k, v, segments]: Names, attrs: AttentionAttrs, types: ReferenceTypes) {
    const { onnx } = ctx
    const h = headsOf(types.inputs[0].shape, types.inputs[1].shape[2])
    const [queries, keys, values] = [splitQueries(onnx, q, h), swapHeads(onnx, k), swapHeads(onnx, v)]
    const scores = onnx.matmul(queries, keys, { transB: true, alpha: attrs.scale })
    const folded = onnx.reshape(scores, [h.batch, h.kvHeads, h.group, h.tokens, h.tokens])
    const masked = onnx.node('Add', [folded, maskOf(ctx, segments, h, attrs.slidingWindow)])
    const softmax = onnx.node('Softmax', [masked], { axis: -1 })
    const p = onnx.reshape(softmax, [h.batch, h.kvHeads, h.group * h.tokens, h.tokens])
    const heads = onnx.matmul(p, values)
    const o = joinQueries(onnx, heads, h)
    for (const [name, value] of Object.entries({ p, queries, keys, values, heads })) ctx.kept.set(`${name}:${o}`, value)
    const lse = onnx.node('ReduceLogSumExp', [masked, onnx.int64s([-1])], { keepdims: 0 })
    return [o, onnx.reshape(lse, types.outputs[1].shape)]
  },
  /** Reads the probabilities and the transposed operands that the forward pass left for its output. */
  attentionBackward(ctx: LowerContext, [dO, , , , o]: Names, { scale }: AttentionAttrs, types: ReferenceTypes) {
    const { onnx } = ctx
    const h = headsOf(types.inputs[1].shape, types.inputs[2].shape[2])
    const kept = (name: string) => ctx.kept.get(`${name}:${o}`) ?? ''
    const [p, queries, keys, values, heads] = ['p', 'queries', 'keys', 'values', 'heads'].map(kept)
    const dHeads = splitQueries(onnx, dO, h)
    const dV = onnx.matmul(p, dHeads, { transA: true })
    const dP = onnx.matmul(dHeads, values, { transB: true })
    const delta = onnx.node('ReduceSum', [onnx.node('Mul', [dHeads, heads]), onnx.int64s([-1])], { keepdims: 1 })
    const dS = onnx.node('Mul', [onnx.node('Sub', [dP, delta]), p])
    const dQ = onnx.matmul(dS, keys, { alpha: scale })
    const dK = onnx.matmul(dS, queries, { transA: true, alpha: scale })
    return [joinQueries(onnx, dQ, h), swapHeads(onnx, dK), swapHeads(onnx, dV)]
  },
}
