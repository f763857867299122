import type { Program, Value } from '@mirastral/engine'
import {
  add,
  adamwStep,
  div,
  f32,
  full,
  grad,
  Graph,
  greater,
  i32,
  linearCrossEntropy,
  mul,
  maximum,
  reshape,
  scale,
  select,
  sqrt,
  sum,
  sumSquares,
} from '@mirastral/engine'
import type { Architecture, ForwardContext, ModelConfig } from '@mirastral/models'
import { outputEmbedding } from '@mirastral/models'
import { statePrefix } from './step.js'

/** A model with its adapter, as the training programs see it. */
export interface TrainableModel {
  readonly architecture: Architecture
  readonly config: ModelConfig
  /** The forward context of the adapted model; `dropoutSeed` (i32[2]) is null outside training. */
  context(graph: Graph, dropoutSeed: Value | null): ForwardContext
  /** Shapes of the trained tensors by PEFT key, in the order of the forward pass. */
  readonly trained: ReadonlyMap<string, readonly number[]>
}

/** The static shape of a batch: programs are built once per bucket. */
export interface Bucket {
  readonly batchSize: number
  readonly sequenceLength: number
}

export interface ForwardOptions {
  /** Rows of the rotary tables. */
  readonly maxPositions: number
  readonly labelSmoothing: number
  readonly dropout: boolean
  /** NEFTune: noise of this shape is added to the embeddings. */
  readonly noise: boolean
}

export interface TokenLosses {
  /** f32[tokens], 0 where not trained. */
  readonly loss: Value
  readonly correct: Value
}

/** Emits the forward pass up to the loss of each token. */
export function tokenLosses(g: Graph, model: TrainableModel, bucket: Bucket, options: ForwardOptions): TokenLosses {
  const { batchSize, sequenceLength } = bucket
  const tokens = i32(batchSize, sequenceLength)
  const seed = options.dropout ? g.input('seed', i32(2)) : null
  const ctx = model.context(g, seed)
  const { hiddenSize } = model.config
  const hidden = model.architecture.forward(ctx, model.config, {
    ids: g.input('inputIds', tokens),
    positions: g.input('positions', tokens),
    maxPositions: options.maxPositions,
    segments: g.input('segmentIds', tokens),
    embeddingNoise: options.noise ? g.input('noise', f32(batchSize, sequenceLength, hiddenSize)) : null,
  })
  const rows = batchSize * sequenceLength
  const targets = reshape(g.input('targets', tokens), [rows])
  return g.scope('loss', () =>
    linearCrossEntropy(reshape(hidden, [rows, hiddenSize]), ctx.parameter(outputEmbedding(model.config)), targets, {
      labelSmoothing: options.labelSmoothing,
    }),
  )
}

const stateOf = (g: Graph, prefix: string, key: string, shape: readonly number[]): Value =>
  g.state(`${prefix}${key}`, f32(...shape))

/**
 * Forward and backward of one micro-batch: outputs `lossSum` (the sum over its trained tokens), and adds the gradient of
 * that sum to the accumulators. The division by the number of tokens comes with the update, over all micro-batches.
 */
export function microStepProgram(
  model: TrainableModel,
  bucket: Bucket,
  options: ForwardOptions & { readonly checkpoint: boolean },
): Program {
  const g = new Graph(`train ${bucket.batchSize}x${bucket.sequenceLength}`)
  const lossSum = sum(tokenLosses(g, model, bucket, options).loss)
  accumulateGradients(g, model, lossSum, options.checkpoint)
  g.output('lossSum', lossSum)
  return g.build()
}

/** Adds the gradient of a scalar by every trained tensor to the tensor's accumulator. */
export function accumulateGradients(g: Graph, model: TrainableModel, lossSum: Value, checkpoint: boolean): void {
  const trained = [...model.trained]
  const parameters = trained.map(([key, shape]) => stateOf(g, statePrefix.adapter, key, shape))
  const gradients = grad(lossSum, parameters, { checkpoint })
  trained.forEach(([key, shape], i) => {
    const accumulator = stateOf(g, statePrefix.gradient, key, shape)
    g.update(accumulator, add(accumulator, gradients[i]))
  })
}

/** Forward only: `lossSum` and how many trained tokens the model ranks first. */
export function evaluationProgram(model: TrainableModel, bucket: Bucket, options: ForwardOptions): Program {
  const g = new Graph(`evaluate ${bucket.batchSize}x${bucket.sequenceLength}`)
  const { loss, correct } = tokenLosses(g, model, bucket, { ...options, dropout: false, noise: false })
  g.output('lossSum', sum(loss))
  g.output('correct', sum(correct))
  return g.build()
}

export interface OptimizerOptions {
  readonly beta1: number
  readonly beta2: number
  readonly eps: number
  readonly weightDecay: number
  /** Gradients are clipped to this global norm; 0 turns clipping off. */
  readonly maxGradNorm: number
  /** LoRA+ (arXiv 2402.12354): the rate of B matrices is the learning rate times this. */
  readonly loraplusLrRatio: number | null
}

/** The largest float32: a norm above it, or none, is not finite. */
const MAX_F32 = 3.4028234663852886e38

/** PyTorch's `clip_grad_norm_`: min(1, maxNorm / (norm + 1e-6)). */
function clipFactor(norm: Value, maxNorm: number): Value {
  const limit = full(norm.graph, f32(), maxNorm)
  const ratio = div(limit, scale(norm, 1, 1e-6))
  return scale(maximum(scale(ratio, -1), full(norm.graph, f32(), -1)), -1)
}

/** Transformers' rule for parameters without weight decay: biases and norms (LoRA matrices decay). */
const NO_DECAY = /bias|layernorm|rmsnorm|(^|\.)norm($|\.)|_norm($|\.)/i

/**
 * One optimizer step: divides the accumulated gradients by the trained tokens, clips their global norm, applies AdamW
 * and sets the accumulators to zero. Outputs `gradNorm`, before clipping. If it is not finite, weights and moments keep
 * their values.
 */
export function optimizerProgram(model: TrainableModel, options: OptimizerOptions): Program {
  const g = new Graph('update')
  const scalar = (name: string): Value => g.input(name, f32())
  const [learningRate, bias1, bias2, inverseTokens] = ['learningRate', 'bias1', 'bias2', 'inverseTokens'].map(scalar)
  const trained = [...model.trained]
  const gradients = trained.map(([key, shape]) => stateOf(g, statePrefix.gradient, key, shape))
  const squares = gradients.map(sumSquares).reduce((a, b) => add(a, b))
  const gradNorm = mul(sqrt(squares), inverseTokens)
  const finite = greater(full(g, f32(), MAX_F32), gradNorm)
  const gradScale =
    options.maxGradNorm > 0 ? mul(inverseTokens, clipFactor(gradNorm, options.maxGradNorm)) : inverseTokens
  const rateOfB = options.loraplusLrRatio === null ? learningRate : scale(learningRate, options.loraplusLrRatio)
  trained.forEach(([key, shape], i) => {
    const before = {
      parameter: stateOf(g, statePrefix.adapter, key, shape),
      firstMoment: stateOf(g, statePrefix.firstMoment, key, shape),
      secondMoment: stateOf(g, statePrefix.secondMoment, key, shape),
    }
    const rate = key.endsWith('lora_B.weight') ? rateOfB : learningRate
    const after = adamwStep(
      { ...before, gradient: gradients[i], learningRate: rate, bias1, bias2, gradScale },
      {
        beta1: options.beta1,
        beta2: options.beta2,
        eps: options.eps,
        weightDecay: NO_DECAY.test(key) ? 0 : options.weightDecay,
      },
    )
    g.update(before.parameter, select(finite, after.parameter, before.parameter))
    g.update(before.firstMoment, select(finite, after.firstMoment, before.firstMoment))
    g.update(before.secondMoment, select(finite, after.secondMoment, before.secondMoment))
    g.update(gradients[i], full(g, f32(...shape), 0))
  })
  g.output('gradNorm', gradNorm)
  return g.build()
}
