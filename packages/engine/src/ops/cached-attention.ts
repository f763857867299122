import type { Value } from '../ir/graph.js'
import { f32, i32, sameShape, type TensorType } from '../ir/tensor-type.js'
import { arity, at, defineOp, emit, expect, normal, sameFloat, values, type Sample } from './define.js'
import type { AttentionAttrs } from './attention.js'

function cacheShape(inputs: readonly TensorType[]) {
  arity('cachedAttention', inputs, 6)
  const [q, k, v, kCache, vCache, lengths] = inputs
  sameFloat('cachedAttention', inputs.slice(0, 5))
  expect(
    q.shape.length === 4 && kCache.shape.length === 4,
    'cachedAttention',
    'q and the caches must have 4 axes',
    inputs,
  )
  const [batch, tokens, heads, headDim] = q.shape
  const [capacity, , kvHeads] = kCache.shape
  expect(
    sameShape(k.shape, [batch, tokens, kvHeads, headDim]) && sameShape(v.shape, k.shape),
    'cachedAttention',
    'k and v must be [batch, tokens, kvHeads, headDim]',
    inputs,
  )
  expect(
    sameShape(kCache.shape, [capacity, batch, kvHeads, headDim]) && sameShape(vCache.shape, kCache.shape),
    'cachedAttention',
    'the caches must be [capacity, batch, kvHeads, headDim]',
    inputs,
  )
  expect(
    lengths.dtype === 'i32' && sameShape(lengths.shape, [batch]),
    'cachedAttention',
    'lengths must be i32 [batch]',
    inputs,
  )
  expect(heads % kvHeads === 0, 'cachedAttention', `${heads} heads must be a multiple of ${kvHeads}`, inputs)
  return { batch, tokens, heads, headDim, kvHeads }
}

/**
 * Attention of new tokens over a cache and themselves: token s of sequence b stands at position lengths[b] + s and sees
 * cache rows 0 .. lengths[b]-1 of its sequence and new rows 0 .. s, within the sliding window.
 */
const cachedAttentionDef = defineOp<AttentionAttrs>({
  name: 'cachedAttention',
  infer(inputs) {
    cacheShape(inputs)
    return [at(inputs, 0)]
  },
  reference([q, k, v, kCache, vCache, lengths], { scale, slidingWindow }, types) {
    const { batch, tokens, heads, headDim, kvHeads } = cacheShape(types.inputs)
    const o = new Float64Array(q.length)
    for (let b = 0; b < batch; b++) {
      for (let s = 0; s < tokens; s++) {
        const position = lengths[b] + s
        const first = slidingWindow > 0 ? Math.max(0, position - slidingWindow + 1) : 0
        for (let h = 0; h < heads; h++) {
          const kvHead = Math.floor((h * kvHeads) / heads)
          const qRow = ((b * tokens + s) * heads + h) * headDim
          const rows = Array.from({ length: position - first + 1 }, (_, i) => {
            const p = first + i
            return p < lengths[b]
              ? { keys: kCache, values: vCache, row: ((p * batch + b) * kvHeads + kvHead) * headDim }
              : { keys: k, values: v, row: ((b * tokens + p - lengths[b]) * kvHeads + kvHead) * headDim }
          })
          const scores = rows.map(({ keys, row }) => {
            let total = 0
            for (let d = 0; d < headDim; d++) total += q[qRow + d] * keys[row + d]
            return scale * total
          })
          const top = Math.max(...scores)
          const weights = scores.map((score) => Math.exp(score - top))
          const sum = weights.reduce((a, w) => a + w, 0)
          rows.forEach(({ values: from, row }, i) => {
            for (let d = 0; d < headDim; d++) o[qRow + d] += (weights[i] / sum) * from[row + d]
          })
        }
      }
    }
    return [o]
  },
  vjp: { nonDifferentiable: 'the key-value cache is for generation' },
  samples: cachedSamples,
})

function cachedSamples(): Sample<AttentionAttrs>[] {
  const inputs = (
    batch: number,
    tokens: number,
    heads: number,
    kvHeads: number,
    capacity: number,
    lengths: number[],
  ) => [
    normal(f32(batch, tokens, heads, 4)),
    normal(f32(batch, tokens, kvHeads, 4)),
    normal(f32(batch, tokens, kvHeads, 4)),
    normal(f32(capacity, batch, kvHeads, 4)),
    normal(f32(capacity, batch, kvHeads, 4)),
    values(i32(batch), lengths),
  ]
  return [
    { title: 'one new token', inputs: inputs(1, 1, 2, 1, 6, [4]), attrs: { scale: 0.5, slidingWindow: 0 } },
    { title: 'an empty cache', inputs: inputs(1, 3, 2, 2, 4, [0]), attrs: { scale: 0.5, slidingWindow: 0 } },
    {
      title: 'a batch of different lengths',
      inputs: inputs(3, 2, 4, 2, 8, [5, 0, 3]),
      attrs: { scale: 0.5, slidingWindow: 0 },
    },
    { title: 'a sliding window', inputs: inputs(2, 2, 2, 1, 8, [6, 1]), attrs: { scale: 0.5, slidingWindow: 3 } },
  ]
}

export const cachedAttentionOps = { cachedAttention: cachedAttentionDef } as const

/**
 * Attention of new tokens q, k, v [batch, tokens, heads or kvHeads, headDim] over key-value caches
 * [capacity, batch, kvHeads, headDim] of which the first `lengths` (i32 [batch]) rows are filled.
 */
export const cachedAttention = (
  qkv: readonly [Value, Value, Value],
  o: { keyCache: Value; valueCache: Value; lengths: Value; scale: number; slidingWindow?: number | null },
): Value =>
  emit(cachedAttentionDef, [...qkv, o.keyCache, o.valueCache, o.lengths], {
    scale: o.scale,
    slidingWindow: o.slidingWindow ?? 0,
  })
