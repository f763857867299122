export const preferenceLossTypes = ['sigmoid', 'hinge', 'ipo', 'robust'] as const
export type PreferenceLossType = (typeof preferenceLossTypes)[number]

export interface PreferenceOptions {
  /** `sigmoid` is DPO (arXiv:2305.18290), `hinge` SLiC (2305.10425), `ipo` IPO (2310.12036), `robust` 2403.00409. */
  readonly lossType: PreferenceLossType
  /** How strongly the policy is held to the reference. TRL's default is 0.1. */
  readonly beta: number
  /** Assumed share of pairs labelled the wrong way round, below 0.5; used by `robust` only. */
  readonly labelSmoothing: number
}

/** Natural logarithms of the probabilities of two answers, each summed over the answer's tokens. */
export interface PairLogProbs {
  readonly chosen: number
  readonly rejected: number
  /** The same under the reference: the model without its adapter. */
  readonly referenceChosen: number
  readonly referenceRejected: number
  /** Lengths of the answers, which `ipo` divides by. */
  readonly chosenTokens: number
  readonly rejectedTokens: number
}

export interface PairLoss {
  readonly loss: number
  /** Derivatives of the loss by `chosen` and by `rejected`: the weights of the two sequences' log-probabilities in a backward pass. */
  readonly chosenGradient: number
  readonly rejectedGradient: number
  /** beta times how much likelier the answer is than under the reference. */
  readonly chosenReward: number
  readonly rejectedReward: number
}

/** Loss, gradient and rewards of one pair, as TRL's `DPOTrainer._compute_loss` with the reverse-KL divergence. */
export function preferenceLoss(pair: PairLogProbs, options: PreferenceOptions): PairLoss {
  const { beta } = options
  const chosenRatio = pair.chosen - pair.referenceChosen
  const rejectedRatio = pair.rejected - pair.referenceRejected
  const rewards = { chosenReward: beta * chosenRatio, rejectedReward: beta * rejectedRatio }
  if (options.lossType === 'ipo') {
    const [chosenTokens, rejectedTokens] = [Math.max(1, pair.chosenTokens), Math.max(1, pair.rejectedTokens)]
    const error = chosenRatio / chosenTokens - rejectedRatio / rejectedTokens - 1 / (2 * beta)
    const gradients = { chosenGradient: (2 * error) / chosenTokens, rejectedGradient: (-2 * error) / rejectedTokens }
    return { loss: error ** 2, ...gradients, ...rewards }
  }
  const { loss, slope } = marginLoss(beta * (chosenRatio - rejectedRatio), options.lossType, options.labelSmoothing)
  return { loss, chosenGradient: beta * slope, rejectedGradient: -beta * slope, ...rewards }
}

/** A loss of the difference of the rewards, and its derivative by it. */
function marginLoss(
  margin: number,
  lossType: Exclude<PreferenceLossType, 'ipo'>,
  labelSmoothing: number,
): { loss: number; slope: number } {
  switch (lossType) {
    case 'hinge':
      return margin < 1 ? { loss: 1 - margin, slope: -1 } : { loss: 0, slope: 0 }
    case 'robust': {
      const [kept, flipped] = [1 - labelSmoothing, labelSmoothing]
      const scale = 1 - 2 * labelSmoothing
      const loss = (-kept * logSigmoid(margin) + flipped * logSigmoid(-margin)) / scale
      return { loss, slope: (-kept * sigmoid(-margin) - flipped * sigmoid(margin)) / scale }
    }
    case 'sigmoid':
      return { loss: -logSigmoid(margin), slope: -sigmoid(-margin) }
  }
}

/** Neither overflows: the exponent is never positive. */
function sigmoid(x: number): number {
  return x >= 0 ? 1 / (1 + Math.exp(-x)) : Math.exp(x) / (1 + Math.exp(x))
}

function logSigmoid(x: number): number {
  return Math.min(0, x) - Math.log1p(Math.exp(-Math.abs(x)))
}

/** The metric that tells most: how much more the chosen answers are rewarded than the rejected ones. */
export const MARGIN = 'rewards/margins'

/** Sums over pairs of what TRL logs, for `AccumulateResult.metrics`: the loop divides them by the number of pairs. */
export function preferenceMetrics(pairs: readonly PairLogProbs[], losses: readonly PairLoss[]): Record<string, number> {
  const sums = {
    'rewards/chosen': 0,
    'rewards/rejected': 0,
    'rewards/accuracies': 0,
    'rewards/margins': 0,
    'logps/chosen': 0,
    'logps/rejected': 0,
  }
  pairs.forEach((pair, i) => {
    const { chosenReward, rejectedReward } = losses[i]
    sums['rewards/chosen'] += chosenReward
    sums['rewards/rejected'] += rejectedReward
    sums['rewards/accuracies'] += chosenReward > rejectedReward ? 1 : 0
    sums['rewards/margins'] += chosenReward - rejectedReward
    sums['logps/chosen'] += pair.chosen
    sums['logps/rejected'] += pair.rejected
  })
  return sums
}
