import type { Value } from '@mirastral/engine'
import {
  add,
  attention,
  cachedAttention,
  concat,
  embedding,
  reshape,
  rmsNorm,
  rope,
  slice,
  swiglu,
} from '@mirastral/engine'
import type { Architecture } from './architecture.js'
import type { ConfigTraits, ModelConfig } from './config.js'
import { parseConfig } from './config.js'
import type { ForwardContext, ForwardInputs, KeyValueCache } from './forward.js'
import { cacheName, cacheType } from './forward.js'
import { decoderParameters, inputEmbedding } from './parameters.js'
import { ropeTables } from './rope-tables.js'

/** An architecture of the common kind: a pre-norm decoder with rotary attention and a gated MLP. */
export function decoder(traits: ConfigTraits): Architecture {
  return {
    modelType: traits.modelType,
    parseConfig: (json, who) => parseConfig(json, traits, who),
    parameters: decoderParameters,
    forward: decoderForward,
  }
}

interface Scope {
  readonly ctx: ForwardContext
  readonly config: ModelConfig
  readonly inputs: ForwardInputs
  readonly tables: { readonly cos: Value; readonly sin: Value }
}

/** Hidden states [batch, tokens, hiddenSize] after the last norm. */
function decoderForward(ctx: ForwardContext, config: ModelConfig, inputs: ForwardInputs): Value {
  const scope: Scope = { ctx, config, inputs, tables: ropeTables(ctx.graph, config, inputs.maxPositions) }
  const embedded = embedding(ctx.parameter(inputEmbedding), inputs.ids)
  let x = inputs.embeddingNoise ? add(embedded, inputs.embeddingNoise) : embedded
  for (let layer = 0; layer < config.numHiddenLayers; layer++) {
    x = ctx.graph.segment(`layer${layer}`, () => decoderLayer(scope, layer, x))
  }
  return norm(scope, 'model.norm', x)
}

function norm({ ctx, config }: Scope, module: string, x: Value): Value {
  return rmsNorm(x, ctx.parameter(`${module}.weight`), { eps: config.rmsNormEps })
}

function decoderLayer(scope: Scope, layer: number, x: Value): Value {
  const { graph } = scope.ctx
  const name = `model.layers.${layer}`
  const attended = graph.scope('attention', () =>
    add(x, selfAttention(scope, layer, norm(scope, `${name}.input_layernorm`, x))),
  )
  return graph.scope('mlp', () => {
    const normed = norm(scope, `${name}.post_attention_layernorm`, attended)
    return add(attended, mlp(scope.ctx, `${name}.mlp`, normed))
  })
}

function mlp(ctx: ForwardContext, name: string, x: Value): Value {
  const gated = swiglu(ctx.linear(`${name}.gate_proj`, x), ctx.linear(`${name}.up_proj`, x))
  return ctx.linear(`${name}.down_proj`, gated)
}

function selfAttention(scope: Scope, layer: number, x: Value): Value {
  const { ctx, config, inputs, tables } = scope
  const name = `model.layers.${layer}.self_attn`
  const [batch, tokens] = x.shape
  const heads = (projection: string, count: number): Value =>
    reshape(ctx.linear(`${name}.${projection}`, x), [batch, tokens, count, config.headDim])
  const normed = (module: string, value: Value): Value =>
    config.qkNorm ? norm(scope, `${name}.${module}`, value) : value
  const turned = (value: Value): Value => rope(value, { positions: inputs.positions, ...tables })
  const q = turned(normed('q_norm', heads('q_proj', config.numAttentionHeads)))
  const k = turned(normed('k_norm', heads('k_proj', config.numKeyValueHeads)))
  const v = heads('v_proj', config.numKeyValueHeads)
  const mixed = inputs.cache ? attendToCache(scope, layer, [q, k, v], inputs.cache) : attend(scope, layer, [q, k, v])
  return ctx.linear(`${name}.o_proj`, reshape(mixed, [batch, tokens, config.numAttentionHeads * config.headDim]))
}

type QueryKeyValue = readonly [Value, Value, Value]

function attend({ config, inputs }: Scope, layer: number, [q, k, v]: QueryKeyValue): Value {
  return attention(q, k, v, {
    scale: config.headDim ** -0.5,
    slidingWindow: config.slidingWindow[layer],
    segments: inputs.segments ?? null,
  })
}

/** Every sequence reads its cache of the layer; then its new keys and values are appended to it. */
function attendToCache(scope: Scope, layer: number, qkv: QueryKeyValue, { capacity, lengths }: KeyValueCache): Value {
  const { graph } = scope.ctx
  const mixed = lengths.map((length, sequence) => {
    const [q, k, v] = qkv.map((x) => ofSequence(x, sequence))
    const type = cacheType(scope.config, capacity, k.dtype)
    const names = cacheName(sequence, layer)
    const [keyCache, valueCache] = [graph.state(names.key, type), graph.state(names.value, type)]
    graph.append(keyCache, k, length)
    graph.append(valueCache, v, length)
    const { headDim, slidingWindow } = scope.config
    const options = { scale: headDim ** -0.5, slidingWindow: slidingWindow[layer] }
    return cachedAttention([q, k, v], { keyCache, valueCache, lengths: length, ...options })
  })
  return mixed.length === 1 ? mixed[0] : concat(mixed, 0)
}

const ofSequence = (x: Value, sequence: number): Value =>
  x.shape[0] === 1 ? x : slice(x, { axis: 0, start: sequence, end: sequence + 1 })
