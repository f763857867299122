import type { Program, Value } from '@mirastral/engine'
import { add, exp, f32, full, Graph, log, maximum, mul, neg, reshape, scale, slice, sub, sum } from '@mirastral/engine'
import type { PreferenceOptions } from './preference.js'
import type { BackwardOptions, Bucket, ForwardOptions, TrainableModel } from './programs.js'
import { accumulateGradients, tokenLosses } from './programs.js'

/** Emits the log-probability of each row's answer: f32[batch], the sum over its trained tokens. */
function answerLogProbs(g: Graph, model: TrainableModel, bucket: Bucket, options: ForwardOptions): Value {
  const { loss } = tokenLosses(g, model, bucket, { ...options, labelSmoothing: 0 })
  return neg(sum(reshape(loss, [bucket.batchSize, bucket.sequenceLength]), { axes: [1] }))
}

/** Forward only: `logProbs` of every row. */
export function logProbProgram(model: TrainableModel, bucket: Bucket, options: ForwardOptions): Program {
  const g = new Graph(`log-probabilities ${bucket.batchSize}x${bucket.sequenceLength}`)
  g.output('logProbs', answerLogProbs(g, model, bucket, { ...options, dropout: false, noise: false }))
  return g.build()
}

/**
 * Forward and backward of pairs, in each part of the rows (each micro-batch) the chosen answers first: outputs `logProbs` of every row, and adds
 * the gradient of the sum of the pairs' losses to the accumulators. Inputs beside the batch: `reference` f32[rows], the
 * log-probabilities without the adapter, and for `ipo` `inverseTokens` f32[rows].
 */
export function preferenceProgram(
  model: TrainableModel,
  bucket: Bucket,
  options: ForwardOptions & PreferenceOptions & BackwardOptions,
): Program {
  const g = new Graph(`prefer ${bucket.batchSize}x${bucket.sequenceLength}`)
  const logProbs = answerLogProbs(g, model, bucket, options)
  const ratios = sub(logProbs, g.input('reference', f32(bucket.batchSize)))
  const inverseTokens = options.lossType === 'ipo' ? g.input('inverseTokens', ratios.type) : null
  const { batchSize, parts = 1 } = bucket
  const size = batchSize / parts
  const losses = Array.from({ length: parts }, (_, part) => {
    const own = (x: Value): Value => slice(x, { axis: 0, start: part * size, end: (part + 1) * size })
    return sum(pairLosses(own(ratios), inverseTokens && own(inverseTokens), options))
  })
  accumulateGradients(
    g,
    model,
    losses.reduce((a, b) => add(a, b)),
    options,
  )
  g.output('logProbs', logProbs)
  return g.build()
}

/** The formulas of `preferenceLoss` on f32[rows] of log-ratios: f32[pairs]. */
function pairLosses(
  ratios: Value,
  inverseTokens: Value | null,
  { lossType, beta, labelSmoothing }: PreferenceOptions,
): Value {
  switch (lossType) {
    case 'sigmoid':
      return softplus(neg(marginOf(ratios, beta)))
    case 'hinge': {
      const missing = scale(marginOf(ratios, beta), -1, 1)
      return maximum(missing, full(missing.graph, missing.type, 0))
    }
    case 'robust': {
      const margin = marginOf(ratios, beta)
      const right = scale(softplus(neg(margin)), 1 - labelSmoothing)
      const flipped = scale(softplus(margin), labelSmoothing)
      return scale(sub(right, flipped), 1 / (1 - 2 * labelSmoothing))
    }
    case 'ipo': {
      const means = inverseTokens ? mul(ratios, inverseTokens) : ratios
      const error = scale(marginOf(means, 1), 1, -1 / (2 * beta))
      return mul(error, error)
    }
  }
}

/** beta times the first half (the chosen answers) less the second half. */
function marginOf(ratios: Value, beta: number): Value {
  const pairs = ratios.shape[0] / 2
  const chosen = slice(ratios, { axis: 0, start: 0, end: pairs })
  const rejected = slice(ratios, { axis: 0, start: pairs, end: 2 * pairs })
  return scale(sub(chosen, rejected), beta)
}

/** log(1 + eˣ) = max(x, 0) + log(1 + e^-|x|), which overflows nowhere. */
function softplus(x: Value): Value {
  const size = maximum(x, neg(x))
  const positive = maximum(x, full(x.graph, x.type, 0))
  return add(positive, log(scale(exp(neg(size)), 1, 1)))
}
