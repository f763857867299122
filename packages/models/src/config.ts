import * as z from 'zod'
import { problemsError } from './errors.js'
import type { Quantization } from './quantization-config.js'
import { parseQuantization } from './quantization-config.js'
import type { RopeParameters } from './rope.js'
import { parseRope } from './rope.js'

/** The number formats in which checkpoints store what is not quantized. */
export type StorageDtype = 'float32' | 'float16' | 'bfloat16'

/** A decoder's configuration: what config.json says, with the defaults of its architecture filled in. */
export interface ModelConfig {
  /** Hugging Face's `model_type`: the architecture. */
  readonly modelType: string
  readonly vocabSize: number
  readonly hiddenSize: number
  readonly intermediateSize: number
  readonly numHiddenLayers: number
  readonly numAttentionHeads: number
  readonly numKeyValueHeads: number
  /** Size of one attention head; not always hiddenSize / numAttentionHeads. */
  readonly headDim: number
  readonly maxPositionEmbeddings: number
  readonly rmsNormEps: number
  readonly initializerRange: number
  /** The output head is the input embedding. */
  readonly tieWordEmbeddings: boolean
  /** Biases of q_proj, k_proj and v_proj. */
  readonly attentionBias: boolean
  /** Bias of o_proj. */
  readonly attentionOutputBias: boolean
  /** Biases of gate_proj, up_proj and down_proj. */
  readonly mlpBias: boolean
  /** RMS norms on every head of queries and keys, before the rotary embedding. */
  readonly qkNorm: boolean
  /** For each layer, the keys that a query sees (itself included), or null for all before it. */
  readonly slidingWindow: readonly (number | null)[]
  readonly rope: RopeParameters
  readonly bosTokenId: number | null
  readonly eosTokenIds: readonly number[]
  readonly padTokenId: number | null
  /** The dtype in which the checkpoint says it is stored, if it says. */
  readonly dtype: StorageDtype | null
  /** How the checkpoint is quantized, if it is. */
  readonly quantization: Quantization | null
  /** What the configuration asks for and training here does differently. */
  readonly warnings: readonly string[]
  /** config.json as read. */
  readonly json: Readonly<Record<string, unknown>>
}

/** What sets an architecture's config.json apart: the meaning of absent keys, and where its biases and windows are. */
export interface ConfigTraits {
  readonly modelType: string
  readonly defaults: {
    readonly vocabSize: number
    readonly intermediateSize: number
    readonly maxPositionEmbeddings: number
    /** Null: as many as attention heads. */
    readonly numKeyValueHeads: number | null
    /** Null: hiddenSize / numAttentionHeads. */
    readonly headDim: number | null
    readonly bosTokenId: number | null
    readonly eosTokenId: number | null
  }
  /** Whether linear layers have biases; `key`: as `attention_bias` or `mlp_bias` says. */
  readonly biases: {
    readonly attention: boolean | 'key'
    readonly attentionOutput: boolean | 'key'
    readonly mlp: boolean | 'key'
  }
  readonly qkNorm: boolean
  /** `none`: sliding_window means nothing; `all`: every layer (default 4096); `by-layer`: only under use_sliding_window. */
  readonly slidingWindow: 'none' | 'all' | 'by-layer'
}

/** Far above every published model; a bigger number is a damaged file, refused before anything is allocated. */
const maxSize = 2 ** 24
const maxLayers = 1024

const shown = (value: unknown): string => (JSON.stringify(value) ?? 'nothing').slice(0, 60)
const wholeUpTo = (max: number) => {
  const error = (issue: { input?: unknown }): string =>
    `must be a whole number from 1 to ${max}, got ${shown(issue.input)}`
  return z.int({ error }).min(1, { error }).max(max, { error })
}
const numberBetween = (low: number, high: number) => {
  const error = (issue: { input?: unknown }): string =>
    `must be a number from ${low} to ${high}, got ${shown(issue.input)}`
  return z.number({ error }).min(low, { error }).max(high, { error })
}
const flag = z.boolean({ error: (issue) => `must be true or false, got ${shown(issue.input)}` })
const oneOf = (...names: [string, ...string[]]) =>
  z.enum(names, { error: (issue) => `must be ${names.join(' or ')}, got ${shown(issue.input)}` })
const tokenError = (issue: { input?: unknown }): string => `must be a token id, got ${shown(issue.input)}`
const token = z.int({ error: tokenError }).min(0, { error: tokenError })
const size = wholeUpTo(maxSize)

function schemaFor({ defaults }: ConfigTraits) {
  const tokens = z.union([token, z.array(token)], {
    error: (issue) => `must be a token id or a list of them, got ${shown(issue.input)}`,
  })
  return z.object({
    vocab_size: size.default(defaults.vocabSize),
    hidden_size: size.default(4096),
    intermediate_size: size.default(defaults.intermediateSize),
    num_hidden_layers: wholeUpTo(maxLayers).default(32),
    num_attention_heads: size.default(32),
    num_key_value_heads: size.nullish(),
    head_dim: size.nullish(),
    max_position_embeddings: wholeUpTo(2 ** 31).default(defaults.maxPositionEmbeddings),
    rms_norm_eps: numberBetween(0, 1).default(1e-6),
    initializer_range: numberBetween(0, 1).default(0.02),
    hidden_act: oneOf('silu', 'swish').default('silu'),
    tie_word_embeddings: flag.default(false),
    attention_bias: flag.default(false),
    mlp_bias: flag.default(false),
    attention_dropout: numberBetween(0, 1).nullable().default(0),
    use_sliding_window: flag.default(false),
    sliding_window: size.nullable().default(4096),
    max_window_layers: z.int().default(28),
    layer_types: z.array(oneOf('full_attention', 'sliding_attention')).nullish(),
    bos_token_id: token.nullable().default(defaults.bosTokenId),
    eos_token_id: tokens.nullable().default(defaults.eosTokenId),
    pad_token_id: token.nullable().default(null),
    architectures: z.array(z.string()).nullish(),
  })
}
type Keys = z.output<ReturnType<typeof schemaFor>>

/** Checks every key; where one is wrong its default stands in, so that the other checks still run. */
function readKeys(json: Record<string, unknown>, traits: ConfigTraits, problems: string[]): Keys {
  const schema = schemaFor(traits)
  const first = schema.safeParse(json)
  if (first.success) return first.data
  const wrong = new Set<string>()
  for (const issue of first.error.issues) {
    wrong.add(String(issue.path[0]))
    problems.push(`${issue.path.map(String).join('.')}: ${issue.message}`)
  }
  return schema.parse(Object.fromEntries(Object.entries(json).filter(([key]) => !wrong.has(key))))
}

function windows(keys: Keys, traits: ConfigTraits, problems: string[]): (number | null)[] {
  const layers = Array.from({ length: keys.num_hidden_layers }, (_, layer) => layer)
  if (traits.slidingWindow === 'none') return layers.map(() => null)
  if (traits.slidingWindow === 'all') return layers.map(() => keys.sliding_window)
  const window = keys.use_sliding_window ? keys.sliding_window : null
  const types = keys.layer_types
  if (!types) return layers.map((layer) => (layer >= keys.max_window_layers ? window : null))
  if (types.length !== layers.length) {
    problems.push(`layer_types: must have num_hidden_layers = ${layers.length} entries, got ${types.length}`)
  }
  if (window === null && types.includes('sliding_attention')) {
    problems.push('layer_types: sliding_attention needs use_sliding_window true and a sliding_window')
  }
  return layers.map((layer) => (types[layer] === 'sliding_attention' ? window : null))
}

function biases(
  keys: Keys,
  traits: ConfigTraits,
): Pick<ModelConfig, 'attentionBias' | 'attentionOutputBias' | 'mlpBias'> {
  const { attention, attentionOutput, mlp } = traits.biases
  return {
    attentionBias: attention === 'key' ? keys.attention_bias : attention,
    attentionOutputBias: attentionOutput === 'key' ? keys.attention_bias : attentionOutput,
    mlpBias: mlp === 'key' ? keys.mlp_bias : mlp,
  }
}

function heads(
  keys: Keys,
  traits: ConfigTraits,
  problems: string[],
): Pick<ModelConfig, 'numKeyValueHeads' | 'headDim'> {
  const count = keys.num_attention_heads
  const absent = traits.defaults.numKeyValueHeads ?? count
  const numKeyValueHeads = keys.num_key_value_heads === undefined ? absent : (keys.num_key_value_heads ?? count)
  if (count % numKeyValueHeads !== 0) {
    problems.push(`num_key_value_heads: must divide num_attention_heads = ${count}, got ${numKeyValueHeads}`)
  }
  const given = keys.head_dim ?? traits.defaults.headDim
  if (given === null && keys.hidden_size % count !== 0) {
    problems.push(
      `num_attention_heads: must divide hidden_size = ${keys.hidden_size} where head_dim is absent, got ${count}`,
    )
    return { numKeyValueHeads, headDim: 2 }
  }
  const headDim = given ?? keys.hidden_size / count
  if (headDim % 2 !== 0) problems.push(`head_dim: must be even for the rotary embedding, got ${headDim}`)
  return { numKeyValueHeads, headDim }
}

const dtypes: readonly string[] = ['float32', 'float16', 'bfloat16'] satisfies StorageDtype[]

/** `dtype` (Transformers 5) or `torch_dtype` (4), where older files may say `torch.float16`. */
function readDtype(json: Record<string, unknown>, problems: string[]): StorageDtype | null {
  const given = json.dtype ?? json.torch_dtype ?? null
  if (given === null || given === 'auto') return null
  const name = typeof given === 'string' ? given.replace(/^torch\./, '') : ''
  if (dtypes.includes(name)) return name as StorageDtype
  problems.push(
    `${'dtype' in json ? 'dtype' : 'torch_dtype'}: must be one of ${dtypes.join(', ')}, got ${shown(given)}`,
  )
  return null
}

function warningsOf(keys: Keys, json: Record<string, unknown>, traits: ConfigTraits): string[] {
  const warnings: string[] = []
  if (keys.attention_dropout) {
    warnings.push(`attention_dropout ${keys.attention_dropout} is not applied; only LoRA dropout is`)
  }
  if (traits.slidingWindow === 'all' && json.layer_types) {
    warnings.push('layer_types is not used by this architecture; sliding_window applies to every layer')
  }
  return warnings
}

/**
 * Reads the text of a config.json, already parsed as JSON, for one architecture: both spellings of keys (Transformers 4
 * and 5), and for absent keys the defaults of Transformers' own class. `who` names the file in errors.
 * Throws ModelError (kind `config`) with every problem at once.
 */
export function parseConfig(json: Record<string, unknown>, traits: ConfigTraits, who = 'config.json'): ModelConfig {
  const problems: string[] = []
  const keys = readKeys(json, traits, problems)
  const causal = keys.architectures?.every((name) => name.endsWith('ForCausalLM')) ?? true
  if (!causal) problems.push(`architectures: must be a ...ForCausalLM, got ${shown(keys.architectures)}`)
  const eos = keys.eos_token_id ?? []
  const config: ModelConfig = {
    modelType: traits.modelType,
    vocabSize: keys.vocab_size,
    hiddenSize: keys.hidden_size,
    intermediateSize: keys.intermediate_size,
    numHiddenLayers: keys.num_hidden_layers,
    numAttentionHeads: keys.num_attention_heads,
    ...heads(keys, traits, problems),
    maxPositionEmbeddings: keys.max_position_embeddings,
    rmsNormEps: keys.rms_norm_eps,
    initializerRange: keys.initializer_range,
    tieWordEmbeddings: keys.tie_word_embeddings,
    ...biases(keys, traits),
    qkNorm: traits.qkNorm,
    slidingWindow: windows(keys, traits, problems),
    rope: parseRope(json, keys.max_position_embeddings, problems),
    bosTokenId: keys.bos_token_id,
    eosTokenIds: Array.isArray(eos) ? eos : [eos],
    padTokenId: keys.pad_token_id,
    dtype: readDtype(json, problems),
    quantization: parseQuantization(json.quantization_config, problems),
    warnings: warningsOf(keys, json, traits),
    json,
  }
  if (problems.length > 0) throw problemsError('config', who, problems)
  return config
}
