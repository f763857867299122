import type { DType, Graph, TensorType, Value } from '@mirastral/engine'
import { add, linear } from '@mirastral/engine'
import type { ModelConfig } from './config.js'
import { internal } from './errors.js'

/**
 * What a forward pass builds with. It is the seam through which adapters act: `@mirastral/lora` gives a context whose
 * `linear` adds to this one's. Whether a weight is dense or NF4 is a matter of its type alone.
 */
export interface ForwardContext {
  readonly graph: Graph
  /** `x Wᵀ + b` of the module `name` (such as `model.layers.0.self_attn.q_proj`) for x [..., in]: [..., out]. */
  linear(name: string, x: Value): Value
  /** A norm or embedding, by its Hugging Face key. */
  parameter(name: string): Value
}

/**
 * A context whose parameters are constants of `graph`, named by their Hugging Face keys.
 * `types`: the type of every parameter, as in `Weights.types`.
 */
export function forwardContext(graph: Graph, types: ReadonlyMap<string, TensorType>): ForwardContext {
  const parameter = (name: string): Value => {
    const type = types.get(name)
    if (!type) throw internal(`the model has no parameter ${name}`)
    return graph.constant(name, type)
  }
  const linearLayer = (name: string, x: Value): Value => {
    const y = linear(x, parameter(`${name}.weight`))
    return types.has(`${name}.bias`) ? add(y, parameter(`${name}.bias`)) : y
  }
  return { graph, parameter, linear: linearLayer }
}

/** The keys and values of earlier tokens, held on the device for each sequence of a batch by itself. */
export interface KeyValueCache {
  /** Tokens of a sequence that fit. */
  readonly capacity: number
  /** i32 [1] for each sequence: how many are there before this run; the new ones are appended. */
  readonly lengths: readonly Value[]
}

export interface ForwardInputs {
  /** i32 [batch, tokens] */
  readonly ids: Value
  /** i32 [batch, tokens], each below `maxPositions`. */
  readonly positions: Value
  /** Rows of the rotary tables: more than the largest position. */
  readonly maxPositions: number
  /** i32 [batch, tokens]: a token sees only tokens of its own segment. Not with a cache. */
  readonly segments?: Value | null
  /** f32 [batch, tokens, hiddenSize], added to the embeddings (NEFTune). */
  readonly embeddingNoise?: Value | null
  /** Attend to earlier tokens, and append these: for generation. */
  readonly cache?: KeyValueCache | null
}

/** How the names of a sequence's cache states begin. */
export const cachePrefix = (sequence: number): string => `cache.${sequence}.`

/** The names of a layer's cache states. */
export const cacheName = (sequence: number, layer: number): { key: string; value: string } => ({
  key: `${cachePrefix(sequence)}${layer}.key`,
  value: `${cachePrefix(sequence)}${layer}.value`,
})

/** The type of each cache state: [capacity, 1, numKeyValueHeads, headDim] in the dtype of the hidden states. */
export function cacheType(config: ModelConfig, capacity: number, dtype: DType = 'f32'): TensorType {
  return { dtype, shape: [capacity, 1, config.numKeyValueHeads, config.headDim] }
}

/** Names and types of every state of a sequence's cache, to bind (with zeros) before the first run. */
export function cacheStates(
  config: ModelConfig,
  capacity: number,
  o: { readonly sequence?: number; readonly dtype?: DType } = {},
): Map<string, TensorType> {
  const names = config.slidingWindow.flatMap((_, layer) => Object.values(cacheName(o.sequence ?? 0, layer)))
  return new Map(names.map((name) => [name, cacheType(config, capacity, o.dtype)]))
}
