import { InferError } from './errors.js'
import {
  applyCountPenalties,
  applyMask,
  applyMinP,
  applyRepetitionPenalty,
  applyTemperature,
  applyTopK,
  applyTopP,
  argmax,
  greatestIds,
  logSumExp,
  softmax,
} from './logits.js'
import { seededRandom } from './random.js'
import type { RandomSource } from './random.js'
import type { SamplingOptions } from './text-generator.js'

/** A token id and the natural logarithm of its probability. */
export interface TokenLogprob {
  readonly tokenId: number
  readonly logprob: number
}

/**
 * Chooses the tokens of one answer. The processors run in the order of Hugging Face's `generate`: repetition penalty,
 * presence and frequency penalties, mask of allowed tokens, then, unless greedy, temperature, top-k, top-p, min-p.
 */
export class Sampler {
  readonly #options: SamplingOptions
  readonly #random: RandomSource
  readonly #seen: Set<number>
  readonly #counts = new Map<number, number>()
  #scores = new Float32Array(0)

  /** `promptIds` count for the repetition penalty only. Without a seed, `randomSeed` is used. */
  constructor(options: SamplingOptions, promptIds: Iterable<number>, randomSeed: number) {
    this.#options = options
    this.#random = seededRandom(options.seed ?? randomSeed)
    this.#seen = new Set(options.repetitionPenalty === undefined ? [] : promptIds)
  }

  /**
   * The next token for one row of logits, f32[vocabSize], which is left unchanged. `allowed` has a bit for each token that
   * may follow. Throws `InferError` when the logits are not numbers or no token is allowed.
   */
  next(logits: Float32Array, allowed?: Uint32Array): number {
    const tokenId = this.#choose(this.process(logits, allowed))
    this.accept(tokenId)
    return tokenId
  }

  /** Counts a token as part of the answer; `next` does it for the tokens that it chooses. */
  accept(tokenId: number): void {
    this.#counts.set(tokenId, (this.#counts.get(tokenId) ?? 0) + 1)
    this.#seen.add(tokenId)
  }

  /** The scores after all processors; a view of a buffer that the next call overwrites. */
  process(logits: Float32Array, allowed?: Uint32Array): Float32Array {
    if (this.#scores.length !== logits.length) this.#scores = new Float32Array(logits.length)
    const scores = this.#scores
    scores.set(logits)
    const o = this.#options
    applyRepetitionPenalty(scores, this.#seen, o.repetitionPenalty ?? 1)
    applyCountPenalties(scores, this.#counts, { presence: o.presencePenalty ?? 0, frequency: o.frequencyPenalty ?? 0 })
    if (allowed !== undefined) applyMask(scores, allowed)
    const temperature = o.temperature ?? 1
    if (temperature === 0) return scores
    applyTemperature(scores, temperature)
    applyTopK(scores, o.topK ?? 0)
    applyTopP(scores, o.topP ?? 1)
    applyMinP(scores, o.minP ?? 0)
    return scores
  }

  #choose(scores: Float32Array): number {
    const best = argmax(scores)
    if (!Number.isFinite(scores[best]) || scores.some(Number.isNaN)) {
      const what = scores[best] === -Infinity ? 'no token is allowed' : 'got NaN or Infinity'
      throw new InferError('MIRASTRAL_INFER_GENERATION', `Sampler: the logits must be finite numbers, ${what}`, {
        exitCode: 1,
      })
    }
    if ((this.#options.temperature ?? 1) === 0) return best
    return drawFrom(softmax(scores), this.#random)
  }
}

function drawFrom(probabilities: Float32Array, random: RandomSource): number {
  let total = 0
  for (let id = 0; id < probabilities.length; id++) total += probabilities[id]
  let rest = random.next() * total
  let last = 0
  for (let id = 0; id < probabilities.length; id++) {
    if (probabilities[id] === 0) continue
    last = id
    rest -= probabilities[id]
    if (rest < 0) return id
  }
  return last
}

/**
 * The log probabilities of `tokenId` and of the `top` most likely tokens, most likely first, under the model itself: a
 * log-softmax of the untouched logits, f32[vocabSize].
 */
export function tokenLogprobs(
  logits: Float32Array,
  tokenId: number,
  top: number,
): { chosen: TokenLogprob; top: TokenLogprob[] } {
  const normalizer = logSumExp(logits)
  const of = (id: number): TokenLogprob => ({ tokenId: id, logprob: logits[id] - normalizer })
  return { chosen: of(tokenId), top: top === 0 ? [] : greatestIds(logits, top).map(of) }
}
