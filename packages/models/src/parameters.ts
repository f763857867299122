import type { ModelConfig } from './config.js'

/** `embedding`: the vocabulary matrices, input and output; they stay in 16 or 32 bits and carry no adapter. */
export type ParameterKind = 'linear' | 'embedding' | 'norm' | 'bias'

/** One parameter of a model. */
export interface ParameterSpec {
  /** The Hugging Face key; for `linear`, the module's name: the key without `.weight`. */
  readonly name: string
  /** `linear`: [out, in]; `embedding`: [vocabulary, hidden]; others: [size]. */
  readonly shape: readonly number[]
  readonly kind: ParameterKind
}

/** The key under which a checkpoint stores a parameter. */
export function checkpointKey(spec: ParameterSpec): string {
  return spec.kind === 'linear' ? `${spec.name}.weight` : spec.name
}

export const inputEmbedding = 'model.embed_tokens.weight'

/** The matrix [vocabulary, hidden] that turns hidden states into logits: the input embedding where they are tied. */
export function outputEmbedding(config: ModelConfig): string {
  return config.tieWordEmbeddings ? inputEmbedding : 'lm_head.weight'
}

function attentionParameters(config: ModelConfig, prefix: string): ParameterSpec[] {
  const { hiddenSize, headDim, numAttentionHeads, numKeyValueHeads, attentionBias, attentionOutputBias } = config
  const queries = numAttentionHeads * headDim
  const keys = numKeyValueHeads * headDim
  return [
    ...linear(`${prefix}.q_proj`, queries, hiddenSize, attentionBias),
    ...linear(`${prefix}.k_proj`, keys, hiddenSize, attentionBias),
    ...linear(`${prefix}.v_proj`, keys, hiddenSize, attentionBias),
    ...linear(`${prefix}.o_proj`, hiddenSize, queries, attentionOutputBias),
    ...(config.qkNorm ? [norm(`${prefix}.q_norm`, headDim), norm(`${prefix}.k_norm`, headDim)] : []),
  ]
}

function linear(name: string, out: number, input: number, bias: boolean): ParameterSpec[] {
  const weight: ParameterSpec = { name, shape: [out, input], kind: 'linear' }
  return bias ? [weight, { name: `${name}.bias`, shape: [out], kind: 'bias' }] : [weight]
}

function norm(module: string, size: number): ParameterSpec {
  return { name: `${module}.weight`, shape: [size], kind: 'norm' }
}

/** Every parameter of a pre-norm decoder, in the order of its forward pass. Tied embeddings are listed once. */
export function decoderParameters(config: ModelConfig): ParameterSpec[] {
  const { vocabSize, hiddenSize, intermediateSize, mlpBias } = config
  const layers = Array.from({ length: config.numHiddenLayers }, (_, layer) => {
    const prefix = `model.layers.${layer}`
    return [
      norm(`${prefix}.input_layernorm`, hiddenSize),
      ...attentionParameters(config, `${prefix}.self_attn`),
      norm(`${prefix}.post_attention_layernorm`, hiddenSize),
      ...linear(`${prefix}.mlp.gate_proj`, intermediateSize, hiddenSize, mlpBias),
      ...linear(`${prefix}.mlp.up_proj`, intermediateSize, hiddenSize, mlpBias),
      ...linear(`${prefix}.mlp.down_proj`, hiddenSize, intermediateSize, mlpBias),
    ]
  })
  const vocabulary = [vocabSize, hiddenSize]
  return [
    { name: inputEmbedding, shape: vocabulary, kind: 'embedding' },
    ...layers.flat(),
    norm('model.norm', hiddenSize),
    ...(config.tieWordEmbeddings ? [] : [{ name: 'lm_head.weight', shape: vocabulary, kind: 'embedding' as const }]),
  ]
}
