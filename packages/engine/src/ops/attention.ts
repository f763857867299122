import type { Value } from '../ir/graph.js'
import { f32, i32, sameShape, type TensorType } from '../ir/tensor-type.js'
import { at, defineOp, emitAll, expect, normal, sameFloat, values, type Sample } from './define.js'

export type AttentionAttrs = {
  /** Multiplies the scores; usually headDim^-0.5. */
  readonly scale: number
  /** A token sees itself and the `slidingWindow - 1` tokens before it; 0 means all of them. */
  readonly slidingWindow: number
}

interface AttentionShape {
  readonly batch: number
  readonly tokens: number
  readonly heads: number
  readonly kvHeads: number
  readonly headDim: number
}

/** Reads and checks q[batch, tokens, heads, headDim], k and v [batch, tokens, kvHeads, headDim], segments i32[batch, tokens]. */
function attentionShape(
  op: string,
  inputs: readonly TensorType[],
  q: TensorType,
  kv: readonly TensorType[],
): AttentionShape {
  sameFloat(op, [q, ...kv])
  expect(q.shape.length === 4, op, 'q must be [batch, tokens, heads, headDim]', inputs)
  const [batch, tokens, heads, headDim] = q.shape
  const kvHeads = at(kv, 0).shape[2]
  expect(
    kv.every((t) => sameShape(t.shape, [batch, tokens, kvHeads, headDim])),
    op,
    'k and v must be [batch, tokens, kvHeads, headDim]',
    inputs,
  )
  expect(heads % kvHeads === 0, op, `${heads} heads must be a multiple of ${kvHeads} key-value heads`, inputs)
  return { batch, tokens, heads, kvHeads, headDim }
}

function checkSegments(
  op: string,
  inputs: readonly TensorType[],
  segments: TensorType | undefined,
  s: AttentionShape,
): void {
  expect(
    segments === undefined || (segments.dtype === 'i32' && sameShape(segments.shape, [s.batch, s.tokens])),
    op,
    'segments must be i32 [batch, tokens]',
    inputs,
  )
}

interface Pair {
  readonly qRow: number
  readonly kRow: number
  readonly lse: number
}

/** Visits every (query, key) pair that may attend, per head, with the element offsets of their rows. */
function forEachPair(
  s: AttentionShape,
  { slidingWindow }: AttentionAttrs,
  segments: Float64Array | undefined,
  visit: (pair: Pair) => void,
): void {
  const group = s.heads / s.kvHeads
  for (let b = 0; b < s.batch; b++) {
    for (let h = 0; h < s.heads; h++) {
      for (let i = 0; i < s.tokens; i++) {
        const first = slidingWindow > 0 ? Math.max(0, i - slidingWindow + 1) : 0
        for (let j = first; j <= i; j++) {
          if (segments && segments[b * s.tokens + i] !== segments[b * s.tokens + j]) continue
          visit({
            qRow: ((b * s.tokens + i) * s.heads + h) * s.headDim,
            kRow: ((b * s.tokens + j) * s.kvHeads + Math.floor(h / group)) * s.headDim,
            lse: (b * s.heads + h) * s.tokens + i,
          })
        }
      }
    }
  }
}

function dot(a: Float64Array, i: number, b: Float64Array, j: number, length: number): number {
  let total = 0
  for (let d = 0; d < length; d++) total += a[i + d] * b[j + d]
  return total
}

/**
 * Causal grouped-query attention: o = softmax(scale q kᵀ + mask) v, query head h reading key-value head
 * floor(h * kvHeads / heads) (Ainslie et al. 2023). A query sees keys of its own segment only. The second output is the
 * logarithm of the softmax's denominator, f32[batch, heads, tokens].
 */
const attentionDef = defineOp<AttentionAttrs>({
  name: 'attention',
  infer(inputs) {
    expect(inputs.length === 3 || inputs.length === 4, 'attention', 'takes q, k, v and optional segments', inputs)
    const s = attentionShape('attention', inputs, at(inputs, 0), inputs.slice(1, 3))
    checkSegments('attention', inputs, inputs[3], s)
    return [at(inputs, 0), f32(s.batch, s.heads, s.tokens)]
  },
  reference([q, k, v, segments], attrs, types) {
    const s = attentionShape('attention', types.inputs, at(types.inputs, 0), types.inputs.slice(1, 3))
    const lse = new Float64Array(s.batch * s.heads * s.tokens).fill(-Infinity)
    forEachPair(s, attrs, segments, ({ qRow, kRow, lse: row }) => {
      const score = attrs.scale * dot(q, qRow, k, kRow, s.headDim)
      const top = Math.max(lse[row], score)
      lse[row] = top + Math.log(Math.exp(lse[row] - top) + Math.exp(score - top))
    })
    const o = new Float64Array(q.length)
    forEachPair(s, attrs, segments, ({ qRow, kRow, lse: row }) => {
      const p = Math.exp(attrs.scale * dot(q, qRow, k, kRow, s.headDim) - lse[row])
      for (let d = 0; d < s.headDim; d++) o[qRow + d] += p * v[kRow + d]
    })
    return [o, lse]
  },
  vjp({ inputs, outputs: [o, lse], attrs, cotangents: [dO] }) {
    if (!dO) return inputs.map(() => null)
    const [q, k, v, ...segments] = inputs
    const grads = emitAll(attentionBackwardDef, [dO, q, k, v, o, lse, ...segments], attrs)
    return [...grads, ...segments.map(() => null)]
  },
  samples: attentionSamples,
})

/** dV = Pᵀ dO, dS = P (dO Vᵀ - rowsum(dO o)), dQ = scale dS K, dK = scale dSᵀ Q (Dao et al. 2022). */
const attentionBackwardDef = defineOp<AttentionAttrs>({
  name: 'attentionBackward',
  infer(inputs) {
    expect(
      inputs.length === 6 || inputs.length === 7,
      'attentionBackward',
      'takes dO, q, k, v, o, lse and optional segments',
      inputs,
    )
    attentionShape('attentionBackward', inputs, at(inputs, 1), inputs.slice(2, 4))
    return inputs.slice(1, 4)
  },
  reference([dO, q, k, v, o, lse, segments], attrs, types) {
    const s = attentionShape('attentionBackward', types.inputs, at(types.inputs, 1), types.inputs.slice(2, 4))
    const [dQ, dK, dV] = [new Float64Array(q.length), new Float64Array(k.length), new Float64Array(v.length)]
    forEachPair(s, attrs, segments, ({ qRow, kRow, lse: row }) => {
      const p = Math.exp(attrs.scale * dot(q, qRow, k, kRow, s.headDim) - lse[row])
      const dP = dot(dO, qRow, v, kRow, s.headDim) - dot(dO, qRow, o, qRow, s.headDim)
      for (let d = 0; d < s.headDim; d++) {
        dV[kRow + d] += p * dO[qRow + d]
        dQ[qRow + d] += attrs.scale * p * dP * k[kRow + d]
        dK[kRow + d] += attrs.scale * p * dP * q[qRow + d]
      }
    })
    return [dQ, dK, dV]
  },
  vjp: { nonDifferentiable: 'second derivatives are not needed to train' },
  // Covered by the derivative of every sample of `attention`, where o and lse are consistent with q, k and v.
  samples: () => [],
})

function attentionSamples(): Sample<AttentionAttrs>[] {
  const qkv = (batch: number, tokens: number, heads: number, kvHeads: number, headDim: number) => [
    normal(f32(batch, tokens, heads, headDim)),
    normal(f32(batch, tokens, kvHeads, headDim)),
    normal(f32(batch, tokens, kvHeads, headDim)),
  ]
  return [
    { title: 'one head', inputs: qkv(1, 5, 1, 1, 4), attrs: { scale: 0.5, slidingWindow: 0 } },
    { title: 'grouped queries in a batch', inputs: qkv(2, 4, 6, 2, 3), attrs: { scale: 0.7, slidingWindow: 0 } },
    { title: 'a sliding window', inputs: qkv(1, 7, 2, 1, 4), attrs: { scale: 0.5, slidingWindow: 3 } },
    {
      title: 'packed segments and padding',
      inputs: [...qkv(2, 6, 2, 2, 4), values(i32(2, 6), [1, 1, 2, 2, 2, 0, 1, 1, 1, 1, 0, 0])],
      attrs: { scale: 0.5, slidingWindow: 0 },
    },
    {
      title: 'large scores',
      inputs: [
        { type: f32(1, 4, 1, 2), range: [-40, 40] },
        { type: f32(1, 4, 1, 2), range: [-40, 40] },
        normal(f32(1, 4, 1, 2)),
      ],
      attrs: { scale: 1, slidingWindow: 0 },
      forwardOnly: true,
    },
    { title: 'one token', inputs: qkv(1, 1, 3, 3, 2), attrs: { scale: 1, slidingWindow: 2 } },
  ]
}

export const attentionOps = { attention: attentionDef, attentionBackward: attentionBackwardDef } as const

/**
 * Causal grouped-query attention over q[batch, tokens, heads, headDim] and k, v[batch, tokens, kvHeads, headDim].
 * `segments` (i32 [batch, tokens]) keeps packed conversations apart. Returns [batch, tokens, heads, headDim].
 */
export function attention(
  q: Value,
  k: Value,
  v: Value,
  o: { scale: number; slidingWindow?: number | null; segments?: Value | null },
): Value {
  const attrs = { scale: o.scale, slidingWindow: o.slidingWindow ?? 0 }
  return at(emitAll(attentionDef, [q, k, v, ...(o.segments ? [o.segments] : [])], attrs), 0)
}
