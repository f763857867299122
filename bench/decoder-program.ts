import {
  adamwStep,
  add,
  attention,
  cachedAttention,
  cast,
  div,
  embedding,
  f32,
  full,
  grad,
  Graph,
  i32,
  linear,
  linearCrossEntropy,
  maximum,
  mul,
  neg,
  nf4,
  reshape,
  rmsNorm,
  rope,
  scale,
  sizeOf,
  sqrt,
  sum,
  sumSquares,
  swiglu,
  type Program,
  type TensorType,
  type Value,
} from '@mirastral/engine'

/** A decoder of the Mistral kind with LoRA on q, k, v and o, built from engine ops alone. */
export interface DecoderShape {
  readonly layers: number
  readonly hidden: number
  readonly intermediate: number
  readonly heads: number
  readonly kvHeads: number
  readonly headDim: number
  readonly vocabulary: number
  /** Of the adapters; 0 for none. */
  readonly rank: number
  readonly batch: number
  readonly tokens: number
  /** Of activations and dense weights. */
  readonly dtype: 'f32' | 'bf16'
  readonly quantized: boolean
  readonly checkpoint: boolean
  /** Packed conversations: a segment id per token. */
  readonly segments: boolean
  /** Rows of the key-value cache (decoding only). */
  readonly capacity: number
}

export const mistral7b: DecoderShape = {
  layers: 32,
  hidden: 4096,
  intermediate: 14336,
  heads: 32,
  kvHeads: 8,
  headDim: 128,
  vocabulary: 32000,
  rank: 16,
  batch: 1,
  tokens: 256,
  dtype: 'bf16',
  quantized: true,
  checkpoint: false,
  segments: false,
  capacity: 0,
}

const LORA_SCALE = 2
const EPS = 1e-5
const TARGETS = ['q', 'k', 'v', 'o'] as const

/** Trained matrices by name: `layer.q.a` [rank, in] and `layer.q.b` [out, rank]. */
export function adapterTypes(s: DecoderShape): Map<string, TensorType> {
  const sizes = { q: s.heads * s.headDim, k: s.kvHeads * s.headDim, v: s.kvHeads * s.headDim, o: s.hidden }
  const types = new Map<string, TensorType>()
  for (let layer = 0; layer < s.layers && s.rank > 0; layer++) {
    for (const target of TARGETS) {
      const input = target === 'o' ? s.heads * s.headDim : s.hidden
      types.set(`${layer}.${target}.a`, f32(s.rank, input))
      types.set(`${layer}.${target}.b`, f32(sizes[target], s.rank))
    }
  }
  return types
}

class Decoder {
  readonly graph: Graph
  readonly adapters = new Map<string, Value>()

  constructor(
    readonly s: DecoderShape,
    name: string,
  ) {
    this.graph = new Graph(name)
    for (const [key, type] of adapterTypes(s)) this.adapters.set(key, this.graph.state(`adapter.${key}`, type))
  }

  dense(name: string, ...shape: number[]): Value {
    return this.graph.constant(name, { dtype: this.s.dtype, shape })
  }

  weight(name: string, out: number, input: number): Value {
    return this.s.quantized ? this.graph.constant(name, nf4([out, input])) : this.dense(name, out, input)
  }

  linear(layer: number, target: string, x: Value, out: number): Value {
    const y = linear(x, this.weight(`${layer}.${target}`, out, x.shape[x.shape.length - 1]))
    const [a, b] = [this.adapters.get(`${layer}.${target}.a`), this.adapters.get(`${layer}.${target}.b`)]
    if (!a || !b) return y
    const { dtype } = this.s
    return add(y, linear(linear(x, cast(a, dtype)), cast(b, dtype), { alpha: LORA_SCALE }))
  }

  block(layer: number, x: Value, attend: (q: Value, k: Value, v: Value) => Value, positions: Value): Value {
    const { s } = this
    const [batch, tokens] = x.shape
    const tables = {
      cos: this.graph.constant('cos', f32(ropeRows(s), s.headDim / 2)),
      sin: this.graph.constant('sin', f32(ropeRows(s), s.headDim / 2)),
    }
    const heads = (y: Value, count: number): Value => reshape(y, [batch, tokens, count, s.headDim])
    const h = rmsNorm(x, this.dense(`${layer}.norm1`, s.hidden), { eps: EPS })
    const q = rope(heads(this.linear(layer, 'q', h, s.heads * s.headDim), s.heads), { positions, ...tables })
    const k = rope(heads(this.linear(layer, 'k', h, s.kvHeads * s.headDim), s.kvHeads), { positions, ...tables })
    const v = heads(this.linear(layer, 'v', h, s.kvHeads * s.headDim), s.kvHeads)
    const mixed = reshape(attend(q, k, v), [batch, tokens, s.heads * s.headDim])
    const y = add(x, this.linear(layer, 'o', mixed, s.hidden))
    const z = rmsNorm(y, this.dense(`${layer}.norm2`, s.hidden), { eps: EPS })
    const gated = swiglu(this.linear(layer, 'gate', z, s.intermediate), this.linear(layer, 'up', z, s.intermediate))
    return add(y, this.linear(layer, 'down', gated, s.hidden))
  }

  embed(ids: Value): Value {
    return embedding(this.dense('embedding', this.s.vocabulary, this.s.hidden), ids)
  }

  finish(x: Value): Value {
    return reshape(rmsNorm(x, this.dense('norm', this.s.hidden), { eps: EPS }), [
      sizeOf(x.shape) / this.s.hidden,
      this.s.hidden,
    ])
  }

  head(): Value {
    return this.dense('head', this.s.vocabulary, this.s.hidden)
  }
}

const ropeRows = (s: DecoderShape): number => Math.max(s.tokens, s.capacity)

/** Forward and backward of one micro-batch: outputs the summed loss, adds the gradients to `gradient.<key>`. */
export function microStepProgram(s: DecoderShape): Program {
  const d = new Decoder(s, 'micro-step')
  const g = d.graph
  const [ids, positions] = [g.input('ids', i32(s.batch, s.tokens)), g.input('positions', i32(s.batch, s.tokens))]
  const targets = g.input('targets', i32(s.batch * s.tokens))
  const segments = s.segments ? g.input('segments', i32(s.batch, s.tokens)) : null
  let x = d.embed(ids)
  for (let layer = 0; layer < s.layers; layer++) {
    const input = x
    const attend = (q: Value, k: Value, v: Value): Value => attention(q, k, v, { scale: s.headDim ** -0.5, segments })
    x = g.segment(`layers.${layer}`, () => d.block(layer, input, attend, positions))
  }
  const { loss } = linearCrossEntropy(d.finish(x), d.head(), targets)
  const total = sum(loss)
  const keys = [...d.adapters.keys()]
  const gradients = grad(total, [...d.adapters.values()], { checkpoint: s.checkpoint })
  keys.forEach((key, i) => {
    const state = g.state(`gradient.${key}`, gradients[i].type)
    g.update(state, add(state, gradients[i]))
  })
  g.output('loss', total)
  return g.build()
}

/** Divides by the tokens, clips at norm 1, takes an AdamW step and clears the gradients. Outputs the norm. */
export function updateProgram(s: DecoderShape): Program {
  const g = new Graph('update')
  const [learningRate, bias1, bias2, perToken] = ['learningRate', 'bias1', 'bias2', 'perToken'].map((n) =>
    g.input(n, f32()),
  )
  const items = [...adapterTypes(s)].map(([key, type]) => ({ key, type, gradient: g.state(`gradient.${key}`, type) }))
  const squares = items.map(({ gradient }) => reshape(sumSquares(gradient), [1]))
  const norm = mul(sqrt(squares.reduce((a, b) => add(a, b))), reshape(perToken, [1]))
  const one = full(g, f32(1), 1)
  const clip = neg(maximum(neg(div(one, scale(norm, 1, 1e-6))), neg(one)))
  const gradScale = reshape(mul(clip, reshape(perToken, [1])), [])
  for (const { key, type, gradient } of items) {
    const [parameter, firstMoment, secondMoment] = ['adapter', 'm', 'v'].map((kind) => g.state(`${kind}.${key}`, type))
    const inputs = { parameter, gradient, firstMoment, secondMoment, learningRate, bias1, bias2, gradScale }
    const next = adamwStep(inputs, { beta1: 0.9, beta2: 0.999, eps: 1e-8, weightDecay: 0 })
    g.update(parameter, next.parameter)
    g.update(firstMoment, next.firstMoment)
    g.update(secondMoment, next.secondMoment)
    g.update(gradient, full(g, type, 0))
  }
  g.output('norm', norm)
  return g.build()
}

/** One new token per sequence over a key-value cache: outputs the logits. */
export function decodeProgram(s: DecoderShape): Program {
  const d = new Decoder({ ...s, tokens: 1 }, 'decode')
  const g = d.graph
  const [ids, positions] = [g.input('ids', i32(s.batch, 1)), g.input('positions', i32(s.batch, 1))]
  const lengths = g.input('lengths', i32(s.batch))
  let x = d.embed(ids)
  for (let layer = 0; layer < s.layers; layer++) {
    const type: TensorType = { dtype: s.dtype, shape: [s.capacity, s.batch, s.kvHeads, s.headDim] }
    const [keyCache, valueCache] = [g.state(`cache.${layer}.key`, type), g.state(`cache.${layer}.value`, type)]
    const attend = (q: Value, k: Value, v: Value): Value => {
      g.append(keyCache, k, lengths)
      g.append(valueCache, v, lengths)
      return cachedAttention([q, k, v], { keyCache, valueCache, lengths, scale: s.headDim ** -0.5 })
    }
    x = d.block(layer, x, attend, positions)
  }
  g.output('logits', linear(d.finish(x), d.head()))
  return g.build()
}
