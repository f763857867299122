import { sizeOf } from '@mirastral/engine'
import type { ModelConfig } from './config.js'
import { ModelError } from './errors.js'
import type { ParameterSpec } from './parameters.js'
import { decoderParameters, outputEmbedding } from './parameters.js'

export interface EstimateOptions {
  /** Rows of a micro-batch; default 1. */
  batchSize?: number
  /** Tokens of a row; default 256. */
  sequenceLength?: number
  /** Fraction of the tokens that carry loss, 0 to 1; default 1. */
  trainedFraction?: number
  /** Linear layers in 4 bits, or in `dtype`; default `nf4`. */
  quantization?: 'nf4' | 'none'
  /** Elements per scale; default 64. */
  blockSize?: number
  /** NF4 weights stay packed on the device, or are expanded to `dtype` once (faster on the CPU); default `packed`. */
  nf4Storage?: 'packed' | 'dense'
  /** What is computed with: float32 on the CPU (default), bfloat16 on a GPU. */
  dtype?: 'float32' | 'bfloat16'
  /** Rank of the adapters; 0 for none. Default 16. */
  r?: number
  /** Module names that carry adapters, by their last part, or `all-linear`; default the attention projections. */
  targetModules?: readonly string[] | 'all-linear'
  /** Layers are computed again in the backward pass instead of keeping their values; default false. */
  checkpointing?: boolean
  /** Memory that the run may use, in bytes. */
  availableBytes?: number
  /** Measured speed of matrix products, in floating-point operations per second; see `measureMatmulRate`. */
  matmulRate?: number
  /** Micro-batches per optimizer step; default 1. */
  gradientAccumulationSteps?: number
  /** Seconds that a run may train. */
  timeBudget?: number
}

/** What a training run needs. All sizes are in bytes, all times in seconds. */
export interface Estimate {
  readonly parameters: {
    /** Of the base model, tied embeddings once. */
    readonly total: number
    readonly linear: number
    readonly embedding: number
    /** Of the adapters. */
    readonly trainable: number
  }
  readonly bytes: {
    readonly weights: number
    readonly adapters: number
    /** Gradient accumulators. */
    readonly gradients: number
    /** AdamW's two moments. */
    readonly optimizer: number
    /** Values kept for the backward pass, and the loss's logits. */
    readonly activations: number
    /** Short-lived: expanded weights, the copies that an update makes; and the runtime itself. */
    readonly workspace: number
    readonly total: number
  }
  /** Null where `availableBytes` is not given. */
  readonly fits: boolean | null
  /** Floating-point operations of one micro-batch, forward and backward, recomputation included. */
  readonly flops: number
  /** Of an optimizer step; null without `matmulRate`. */
  readonly secondsPerStep: number | null
  /** Optimizer steps in `timeBudget`; null without it or `matmulRate`. */
  readonly stepsInBudget: number | null
}

const attentionProjections = ['q_proj', 'k_proj', 'v_proj', 'o_proj']

/** The fraction of the measured matrix-product rate that a whole step reaches on the CPU (issue measurements: 0.69 to 0.91). */
const efficiency = { dense: 0.8, nf4: 0.68 }

/**
 * Measured on the CPU backend (peak resident memory of SmolLM2-135M, TinyLlama-1.1B and Mistral-7B shapes, 1x256 and
 * 4x256, with and without checkpointing; all within 8% of the sum): Node, ONNX Runtime, the programs, and memory that
 * waits for the garbage collector.
 */
const runtimeBytes = { dense: 295e6, packed: 340e6 }
/** How many times the largest matrix an NF4 product needs in passing: indices, looked-up codes, scaled values, and gaps. */
const expandedMatrices = 6

type Shape = Required<Omit<EstimateOptions, 'availableBytes' | 'matmulRate' | 'timeBudget'>>

function withDefaults(options: EstimateOptions): Shape {
  const shape: Shape = {
    batchSize: options.batchSize ?? 1,
    sequenceLength: options.sequenceLength ?? 256,
    trainedFraction: options.trainedFraction ?? 1,
    quantization: options.quantization ?? 'nf4',
    blockSize: options.blockSize ?? 64,
    nf4Storage: options.nf4Storage ?? 'packed',
    dtype: options.dtype ?? 'float32',
    r: options.r ?? 16,
    targetModules: options.targetModules ?? attentionProjections,
    checkpointing: options.checkpointing ?? false,
    gradientAccumulationSteps: options.gradientAccumulationSteps ?? 1,
  }
  for (const key of ['batchSize', 'sequenceLength', 'blockSize', 'gradientAccumulationSteps'] as const) {
    if (!(Number.isInteger(shape[key]) && shape[key] > 0)) {
      throw new ModelError('option', `estimate: ${key} must be a positive whole number, got ${shape[key]}`)
    }
  }
  return shape
}

const total = (specs: readonly ParameterSpec[]): number => specs.reduce((sum, spec) => sum + sizeOf(spec.shape), 0)

function adapted(specs: readonly ParameterSpec[], { targetModules }: Shape): ParameterSpec[] {
  const linear = specs.filter((spec) => spec.kind === 'linear')
  if (targetModules === 'all-linear') return linear
  return linear.filter(({ name }) => targetModules.some((target) => name === target || name.endsWith(`.${target}`)))
}

const bytesOf = (dtype: Shape['dtype']): number => (dtype === 'float32' ? 4 : 2)

function weightBytes(specs: readonly ParameterSpec[], shape: Shape): number {
  const element = bytesOf(shape.dtype)
  const packed = shape.quantization === 'nf4' && shape.nf4Storage === 'packed'
  const perLinear = packed ? 0.5 + 4 / shape.blockSize : element
  return specs.reduce((sum, { kind, shape: size }) => sum + sizeOf(size) * (kind === 'linear' ? perLinear : element), 0)
}

/** Elements that one layer keeps for its backward pass, per token. */
function layerActivations(config: ModelConfig, shape: Shape, loraModules: number): number {
  const { hiddenSize, intermediateSize, headDim, numAttentionHeads, numKeyValueHeads, numHiddenLayers } = config
  const queries = numAttentionHeads * headDim
  const keys = numKeyValueHeads * headDim
  // Two residual sums, two norms; q, k, v after the rotary embedding and the mixed values; attention weights; gate, up, product.
  const attention = 2 * queries + 2 * keys + numAttentionHeads * shape.sequenceLength
  const adapters = (loraModules / numHiddenLayers) * shape.r
  return 4 * hiddenSize + attention + 3 * intermediateSize + adapters
}

function activationBytes(config: ModelConfig, shape: Shape, loraModules: number): number {
  const tokens = shape.batchSize * shape.sequenceLength
  const layer = tokens * layerActivations(config, shape, loraModules)
  const kept = shape.checkpointing
    ? tokens * config.hiddenSize * config.numHiddenLayers + layer
    : layer * config.numHiddenLayers
  // Logits and their softmax, of trained tokens only, in float32.
  const logits = 2 * tokens * shape.trainedFraction * config.vocabSize * 4
  return kept * bytesOf(shape.dtype) + logits
}

/** Short-lived memory: expanded NF4 matrices, and the new copies of all training state that an update makes. */
function workspaceBytes(specs: readonly ParameterSpec[], shape: Shape, trainable: number): number {
  const update = 16 * trainable
  if (shape.quantization !== 'nf4' || shape.nf4Storage !== 'packed') return runtimeBytes.dense + update
  const largest = Math.max(...specs.filter(({ kind }) => kind === 'linear').map((spec) => sizeOf(spec.shape)))
  return runtimeBytes.packed + update + expandedMatrices * largest * bytesOf(shape.dtype)
}

/** 2 m n k for each product: forward, and backward to the activations (base weights are frozen); adapters also to themselves. */
function stepFlops(config: ModelConfig, specs: readonly ParameterSpec[], shape: Shape, trainable: number): number {
  const tokens = shape.batchSize * shape.sequenceLength
  const linear = total(specs.filter(({ kind }) => kind === 'linear'))
  const head = sizeOf(specs.find(({ name }) => name === outputEmbedding(config))?.shape ?? [])
  const scores = 4 * config.numAttentionHeads * config.headDim * shape.sequenceLength * config.numHiddenLayers
  const layers = tokens * (2 * linear + scores)
  const backward = tokens * (2 * linear + 2 * scores)
  const recomputed = shape.checkpointing ? layers : 0
  return layers + backward + recomputed + 4 * head * tokens * shape.trainedFraction + 6 * trainable * tokens
}

/**
 * What fine-tuning a model needs: parameters, memory, floating-point operations, and, with a measured speed, time.
 * Throws ModelError (kind `option`).
 */
export function estimate(config: ModelConfig, options: EstimateOptions = {}): Estimate {
  const shape = withDefaults(options)
  const specs = decoderParameters(config)
  const targets = adapted(specs, shape)
  const trainable = targets.reduce((sum, spec) => sum + shape.r * (spec.shape[0] + spec.shape[1]), 0)
  const parts = {
    weights: weightBytes(specs, shape),
    adapters: 4 * trainable,
    gradients: 4 * trainable,
    optimizer: 8 * trainable,
    activations: activationBytes(config, shape, targets.length),
    workspace: workspaceBytes(specs, shape, trainable),
  }
  const totalBytes = Object.values(parts).reduce((sum, bytes) => sum + bytes, 0)
  const flops = stepFlops(config, specs, shape, trainable)
  const { matmulRate, availableBytes, timeBudget } = options
  const fraction = shape.quantization === 'nf4' && shape.nf4Storage === 'packed' ? efficiency.nf4 : efficiency.dense
  const secondsPerStep = matmulRate ? (flops * shape.gradientAccumulationSteps) / (matmulRate * fraction) : null
  return {
    parameters: {
      total: total(specs),
      linear: total(specs.filter(({ kind }) => kind === 'linear')),
      embedding: total(specs.filter(({ kind }) => kind === 'embedding')),
      trainable,
    },
    bytes: { ...parts, total: totalBytes },
    fits: availableBytes === undefined ? null : totalBytes <= availableBytes,
    flops,
    secondsPerStep,
    stepsInBudget: secondsPerStep && timeBudget !== undefined ? Math.floor(timeBudget / secondsPerStep) : null,
  }
}
