import type { Program, Value } from '@mirastral/engine'
import {
  add,
  adamwStep,
  f32,
  full,
  grad,
  Graph,
  i32,
  linearCrossEntropy,
  mul,
  reshape,
  scale,
  sizeOf,
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
  /** The forward context of the adapted model; `dropoutSeeds` (i32[2] each) are one for each micro-batch, none outside training. */
  context(graph: Graph, dropoutSeeds: readonly Value[]): ForwardContext
  /** Shapes of the trained tensors by PEFT key, in the order of the forward pass. */
  readonly trained: ReadonlyMap<string, readonly number[]>
}

/** The static shape of a batch: programs are built once per bucket. */
export interface Bucket {
  readonly batchSize: number
  readonly sequenceLength: number
  /** Micro-batches of which the rows are made up, in equal parts one after the other; default 1. */
  readonly parts?: number
}

/** The name of the input with the dropout seed of a micro-batch. */
export const seedName = (part: number): string => `seed${part}`

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
  const parts = Array.from({ length: bucket.parts ?? 1 }, (_, part) => part)
  const ctx = model.context(g, options.dropout ? parts.map((part) => g.input(seedName(part), i32(2))) : [])
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
 * that sum, times the input `lossScale` where losses are scaled, to the accumulators. The division by the number of tokens
 * (and by the scale) comes with the update, over all micro-batches.
 */
export function microStepProgram(
  model: TrainableModel,
  bucket: Bucket,
  options: ForwardOptions & BackwardOptions,
): Program {
  const g = new Graph(`train ${bucket.batchSize}x${bucket.sequenceLength}`)
  const lossSum = sum(tokenLosses(g, model, bucket, options).loss)
  accumulateGradients(g, model, lossSum, options)
  g.output('lossSum', lossSum)
  return g.build()
}

export interface BackwardOptions {
  readonly checkpoint: boolean
  /** For float16: whether the loss is multiplied by an input before the backward pass. */
  readonly scaled: boolean
}

/** Adds the gradient of a scalar (times the input `lossScale`) by every trained tensor to the tensor's accumulator. */
export function accumulateGradients(
  g: Graph,
  model: TrainableModel,
  lossSum: Value,
  { checkpoint, scaled }: BackwardOptions,
): void {
  const trained = [...model.trained]
  const loss = scaled ? mul(lossSum, g.input('lossScale', f32())) : lossSum
  const parameters = trained.map(([key, shape]) => stateOf(g, statePrefix.adapter, key, shape))
  const gradients = grad(loss, parameters, { checkpoint })
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
  /** LoRA+ (arXiv 2402.12354): the rate of B and, as in PEFT's `create_loraplus_optimizer`, of vectors is the learning rate times this. */
  readonly loraplusLrRatio: number | null
}

/** Transformers' rule for parameters without weight decay: biases and norms (LoRA matrices decay). */
const NO_DECAY = /bias|layernorm|rmsnorm|(^|\.)norm($|\.)|_norm($|\.)/i

/** `squares`: the sum of the squares of all accumulated gradients. */
export function gradientSquaresProgram(model: TrainableModel): Program {
  const g = new Graph('gradient squares')
  const gradients = [...model.trained].map(([key, shape]) => stateOf(g, statePrefix.gradient, key, shape))
  g.output(
    'squares',
    gradients.map(sumSquares).reduce((a, b) => add(a, b)),
  )
  return g.build()
}

/** Elements that one update program replaces: new values exist beside the old ones while it runs. */
const ELEMENTS_PER_UPDATE = 2 ** 20

/**
 * One optimizer step as a few programs, each for a part of the trained tensors: AdamW on the accumulated gradients times
 * `gradScale` (clipping, and the division by the trained tokens), and accumulators set to zero.
 */
export function updatePrograms(model: TrainableModel, options: OptimizerOptions): Program[] {
  const parts: [string, readonly number[]][][] = []
  let elements = Infinity
  for (const entry of model.trained) {
    elements += sizeOf(entry[1])
    if (elements > ELEMENTS_PER_UPDATE) {
      parts.push([])
      elements = sizeOf(entry[1])
    }
    parts[parts.length - 1].push(entry)
  }
  return parts.map((part) => updateProgram(part, options))
}

function updateProgram(trained: readonly [string, readonly number[]][], options: OptimizerOptions): Program {
  const { beta1, beta2, eps, weightDecay, loraplusLrRatio } = options
  const g = new Graph('update')
  const scalar = (name: string): Value => g.input(name, f32())
  const [learningRate, bias1, bias2, gradScale] = ['learningRate', 'bias1', 'bias2', 'gradScale'].map(scalar)
  const rateOfB = loraplusLrRatio === null ? learningRate : scale(learningRate, loraplusLrRatio)
  for (const [key, shape] of trained) {
    const state = (prefix: string): Value => stateOf(g, prefix, key, shape)
    const before = {
      parameter: state(statePrefix.adapter),
      gradient: state(statePrefix.gradient),
      firstMoment: state(statePrefix.firstMoment),
      secondMoment: state(statePrefix.secondMoment),
    }
    const after = adamwStep(
      {
        ...before,
        learningRate: key.includes('lora_B') || shape.length === 1 ? rateOfB : learningRate,
        bias1,
        bias2,
        gradScale,
      },
      { beta1, beta2, eps, weightDecay: NO_DECAY.test(key) ? 0 : weightDecay },
    )
    g.update(before.parameter, after.parameter)
    g.update(before.firstMoment, after.firstMoment)
    g.update(before.secondMoment, after.secondMoment)
    g.update(before.gradient, full(g, f32(...shape), 0))
  }
  return g.build()
}
