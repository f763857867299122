import type { OnnxModel, OnnxTensor, OnnxTypeName, OnnxValueInfo } from '@mirastral/engine'
import { OnnxBuilder } from '@mirastral/engine'
import type { ModelConfig } from '../config.js'
import { inputEmbedding, outputEmbedding } from '../parameters.js'
import { ropeFrequencies } from '../rope.js'

/** Where the weights of an exported model come from: initializers whose bytes lie in a file beside the graph. */
export interface ExportedWeights {
  /** The initializer of a dense parameter, by its checkpoint key. */
  dense(key: string): string
  /** `x Wᵀ + b` of a module for x [rows, in]: a matrix product, or one with 4-bit weights. */
  linear(b: OnnxBuilder, module: string, x: string, bias: string | null): string
  /** Everything that was asked for. */
  readonly initializers: readonly OnnxTensor[]
}

const symbols = {
  batch: 'batch_size',
  tokens: 'sequence_length',
  past: 'past_sequence_length',
  total: 'total_sequence_length',
}
/** Opset 18 is read by every ONNX Runtime since 1.14, in the browser too. */
const opset = 18
/** Far below every score, and finite: a row in which everything is masked stays a number. */
const masked = -1e9

interface Scope {
  readonly b: OnnxBuilder
  readonly config: ModelConfig
  readonly weights: ExportedWeights
  /** Values shared by all layers. */
  readonly cos: string
  readonly sin: string
  /** Additive masks [batch, 1, 1, tokens, total], by window. */
  readonly masks: ReadonlyMap<number | null, string>
}

/**
 * A decoder as an ONNX graph in the layout that @huggingface/transformers and optimum use: inputs `input_ids`,
 * `attention_mask`, `position_ids`, `num_logits_to_keep` and `past_key_values.N.key|value`, outputs `logits` and
 * `present.N.key|value` [batch, kv heads, tokens, headDim]; float32 throughout; all sizes but the model's are dynamic.
 */
export function decoderGraph(config: ModelConfig, weights: ExportedWeights): OnnxModel {
  const b = new OnnxBuilder()
  const { cos, sin } = rotaryTables(b, config)
  const scope: Scope = { b, config, weights, cos, sin, masks: attentionMasks(b, config) }
  let x = b.node('Gather', [weights.dense(inputEmbedding), 'input_ids'])
  x = b.reshape(x, [-1, config.hiddenSize])
  const outputs: OnnxValueInfo[] = []
  for (let layer = 0; layer < config.numHiddenLayers; layer++) {
    b.scope = `layer${layer}`
    const attended = attentionBlock(scope, layer, x)
    outputs.push(...attended.present)
    x = mlpBlock(scope, layer, attended.x)
  }
  b.scope = ''
  const logits = head(scope, x)
  b.nodes.push({
    opType: 'Identity',
    domain: '',
    name: 'logits',
    inputs: [logits],
    outputs: ['logits'],
    attributes: {},
  })
  const logitsInfo = info('logits', 'float32', [symbols.batch, 'num_logits', config.vocabSize])
  return {
    name: config.modelType,
    opsets: { '': opset, 'com.microsoft': 1 },
    nodes: b.nodes,
    initializers: [...b.initializers, ...weights.initializers],
    inputs: graphInputs(config),
    outputs: [logitsInfo, ...outputs],
  }
}

const info = (name: string, type: OnnxTypeName, dims: readonly (number | string)[]): OnnxValueInfo => ({
  name,
  type,
  dims,
})

function cacheInfo(config: ModelConfig, name: string, tokens: string): OnnxValueInfo {
  return info(name, 'float32', [symbols.batch, config.numKeyValueHeads, tokens, config.headDim])
}

function graphInputs(config: ModelConfig): OnnxValueInfo[] {
  const caches = config.slidingWindow.flatMap((_, layer) =>
    ['key', 'value'].map((part) => cacheInfo(config, `past_key_values.${layer}.${part}`, symbols.past)),
  )
  return [
    info('input_ids', 'int64', [symbols.batch, symbols.tokens]),
    info('attention_mask', 'int64', [symbols.batch, symbols.total]),
    info('position_ids', 'int64', [symbols.batch, symbols.tokens]),
    info('num_logits_to_keep', 'int64', []),
    ...caches,
  ]
}

/** One size of a tensor, as an int64 scalar. */
function sizeOfAxis(b: OnnxBuilder, x: string, axis: number): string {
  return b.node('Gather', [b.node('Shape', [x]), b.int64(axis)])
}

function constant(b: OnnxBuilder, dims: readonly number[], values: Float32Array): string {
  return b.table('float32', dims, [...values].join(), () => values)
}

/** cos and sin [batch, 1, tokens, headDim / 2] of the positions. */
function rotaryTables(b: OnnxBuilder, config: ModelConfig): { cos: string; sin: string } {
  const { inverseFrequencies, attentionFactor } = ropeFrequencies(config.rope, config.headDim)
  const positions = b.node('Unsqueeze', [b.cast('position_ids', 'float32'), b.int64s([1, 3])])
  const angles = b.node('Mul', [positions, constant(b, [1, 1, 1, inverseFrequencies.length], inverseFrequencies)])
  const scaled = (x: string): string => (attentionFactor === 1 ? x : b.node('Mul', [x, b.float(attentionFactor)]))
  return { cos: scaled(b.node('Cos', [angles])), sin: scaled(b.node('Sin', [angles])) }
}

/** A token sees those before it and itself, those the attention mask allows, and those within the layer's window. */
function attentionMasks(b: OnnxBuilder, config: ModelConfig): Map<number | null, string> {
  const total = sizeOfAxis(b, 'attention_mask', 1)
  const past = b.node('Sub', [total, sizeOfAxis(b, 'input_ids', 1)])
  const keys = b.node('Unsqueeze', [b.node('Range', [b.int64(0), total, b.int64(1)]), b.int64s([0])])
  const queries = b.node('Unsqueeze', [b.node('Range', [past, total, b.int64(1)]), b.int64s([1])])
  const causal = b.node('LessOrEqual', [keys, queries])
  const real = b.node('Unsqueeze', [b.cast('attention_mask', 'bool'), b.int64s([1, 2, 3])])
  const additive = (allowed: string): string =>
    b.node('Where', [b.node('And', [allowed, real]), b.float(0), b.float(masked)])
  const masks = new Map<number | null, string>()
  for (const window of new Set(config.slidingWindow)) {
    if (window === null) masks.set(null, additive(causal))
    else {
      const first = b.node('Sub', [queries, b.int64(window)])
      masks.set(window, additive(b.node('And', [causal, b.node('Greater', [keys, first])])))
    }
  }
  return masks
}

function norm({ b, config, weights }: Scope, key: string, x: string): string {
  const squares = b.node('ReduceMean', [b.node('Mul', [x, x]), b.int64s([-1])], { keepdims: 1 })
  const rms = b.node('Sqrt', [b.node('Add', [squares, b.float(config.rmsNormEps)])])
  return b.node('Mul', [b.node('Div', [x, rms]), weights.dense(key)])
}

function linear({ b, weights }: Scope, module: string, x: string, bias: boolean): string {
  return weights.linear(b, module, x, bias ? weights.dense(`${module}.bias`) : null)
}

/** Turns the two halves of every head; x is [batch, heads, tokens, headDim]. */
function rotate({ b, config, cos, sin }: Scope, x: string): string {
  const [first, second] = b.nodeAll(
    'Split',
    [x, b.int64s([config.headDim / 2, config.headDim / 2])],
    { axis: -1 },
    { outputs: 2 },
  )
  const product = (half: string, factor: string): string => b.node('Mul', [half, factor])
  const left = b.node('Sub', [product(first, cos), product(second, sin)])
  const right = b.node('Add', [product(second, cos), product(first, sin)])
  return b.node('Concat', [left, right], { axis: -1 })
}

/** The dimensions [batch, tokens, count, headDim] as a shape tensor: two sizes are the input's. */
function headShape(b: OnnxBuilder, count: number, headDim: number): string {
  return b.node('Concat', [b.node('Shape', ['input_ids']), b.int64s([count, headDim])], { axis: 0 })
}

function attentionBlock(scope: Scope, layer: number, x: string): { x: string; present: OnnxValueInfo[] } {
  const { b, config } = scope
  const { numAttentionHeads, numKeyValueHeads, headDim, attentionBias, attentionOutputBias } = config
  const name = `model.layers.${layer}.self_attn`
  const input = norm(scope, `model.layers.${layer}.input_layernorm.weight`, x)
  const heads = (module: string, count: number, normed: string | null): string => {
    const y = linear(scope, `${name}.${module}`, input, attentionBias)
    const split = b.node('Reshape', [y, headShape(b, count, headDim)])
    return b.transpose(normed ? norm(scope, `${name}.${normed}.weight`, split) : split, [0, 2, 1, 3])
  }
  const qk = (part: string): string | null => (config.qkNorm ? part : null)
  const q = rotate(scope, heads('q_proj', numAttentionHeads, qk('q_norm')))
  const newKeys = rotate(scope, heads('k_proj', numKeyValueHeads, qk('k_norm')))
  const present = (['key', 'value'] as const).map((part, i) => {
    const fresh = i === 0 ? newKeys : heads('v_proj', numKeyValueHeads, null)
    const output = `present.${layer}.${part}`
    const inputs = [`past_key_values.${layer}.${part}`, fresh]
    b.nodes.push({ opType: 'Concat', domain: '', name: output, inputs, outputs: [output], attributes: { axis: 2 } })
    return cacheInfo(config, output, symbols.total)
  })
  const mixed = attend(scope, layer, q, present[0].name, present[1].name)
  const flat = b.reshape(b.transpose(mixed, [0, 2, 1, 3]), [-1, numAttentionHeads * headDim])
  return { x: b.node('Add', [x, linear(scope, `${name}.o_proj`, flat, attentionOutputBias)]), present }
}

/** Softmax attention; queries [batch, heads, tokens, headDim] share key-value heads in groups, which broadcast. */
function attend({ b, config, masks }: Scope, layer: number, q: string, keys: string, values: string): string {
  const { numAttentionHeads, numKeyValueHeads, headDim } = config
  const group = numAttentionHeads / numKeyValueHeads
  const grouped = b.reshape(q, [0, numKeyValueHeads, group, -1, headDim])
  const one = b.int64s([2])
  const transposed = b.transpose(b.node('Unsqueeze', [keys, one]), [0, 1, 2, 4, 3])
  const scaled = b.node('Mul', [grouped, b.float(headDim ** -0.5)])
  const scores = b.node('Add', [b.node('MatMul', [scaled, transposed]), masks.get(config.slidingWindow[layer]) ?? ''])
  const mixed = b.node('MatMul', [b.node('Softmax', [scores], { axis: -1 }), b.node('Unsqueeze', [values, one])])
  return b.reshape(mixed, [0, numAttentionHeads, -1, headDim])
}

function mlpBlock(scope: Scope, layer: number, x: string): string {
  const { b, config } = scope
  const name = `model.layers.${layer}.mlp`
  const input = norm(scope, `model.layers.${layer}.post_attention_layernorm.weight`, x)
  const gate = linear(scope, `${name}.gate_proj`, input, config.mlpBias)
  const up = linear(scope, `${name}.up_proj`, input, config.mlpBias)
  const activated = b.node('Mul', [b.node('Mul', [gate, b.node('Sigmoid', [gate])]), up])
  return b.node('Add', [x, linear(scope, `${name}.down_proj`, activated, config.mlpBias)])
}

/** Logits [batch, kept, vocabulary] of the last `num_logits_to_keep` tokens; 0 keeps all. */
function head(scope: Scope, x: string): string {
  const { b, config, weights } = scope
  const tokens = sizeOfAxis(b, 'input_ids', 1)
  const batch = b.node('Shape', ['input_ids'], { start: 0, end: 1 })
  const rows = b.node('Concat', [b.node('Shape', ['input_ids']), b.int64s([config.hiddenSize])], { axis: 0 })
  const first = b.node('Where', [
    b.node('Equal', ['num_logits_to_keep', b.int64(0)]),
    b.int64(0),
    b.node('Sub', [tokens, 'num_logits_to_keep']),
  ])
  const vector = (scalar: string): string => b.reshape(scalar, [1])
  const kept = b.node('Slice', [b.node('Reshape', [x, rows]), vector(first), vector(tokens), b.int64s([1])])
  const flat = b.reshape(kept, [-1, config.hiddenSize])
  const module = outputEmbedding(config).replace(/\.weight$/, '')
  const logits = weights.linear(b, module, norm(scope, 'model.norm.weight', flat), null)
  const shape = b.node('Concat', [batch, b.int64s([-1, config.vocabSize])], { axis: 0 })
  return b.node('Reshape', [logits, shape])
}
