import { ortBackend } from '@mirastral/engine'
import { DeviceDecoder } from '@mirastral/infer'
import type { DecodingPrecision } from '@mirastral/infer'
import type { LoadedModel } from '@mirastral/models'
import { randomFrom } from './conversations.js'

export interface Divergence {
  /** Mean and largest Kullback-Leibler divergence from the exact distribution of the next token, in nats. */
  readonly kl: number
  readonly worst: number
  /** Of `tokens` positions, at how many both would choose the same token. */
  readonly equal: number
  readonly tokens: number
}

const PROMPT = 16
const TEXTS = 4
const STEPS = 64

/**
 * How far rounded weights lead away from the exact ones: both continue what the exact model draws at temperature 1, so that
 * every position is one that the model could be at.
 */
export async function divergence(
  model: LoadedModel,
  precision: DecodingPrecision,
  threads: number,
): Promise<Divergence> {
  const create = (p: DecodingPrecision): Promise<DeviceDecoder> =>
    DeviceDecoder.create({ backend: ortBackend({ threads }), model, contextLength: PROMPT + STEPS, sequences: 1, precision: p }) // prettier-ignore
  const [exact, rounded] = [await create('exact'), await create(precision)]
  const random = randomFrom(7)
  let [sum, worst, equal, tokens] = [0, 0, 0, 0]
  for (let text = 0; text < TEXTS; text++) {
    const ids = Int32Array.from({ length: PROMPT }, () => 3 + Math.floor(random() * (model.config.vocabSize - 3)))
    let { logits } = await exact.prefill(0, { ids, position: 0 }, null)
    await rounded.prefill(0, { ids, position: 0 }, null)
    for (let i = 0; i < STEPS; i++) {
      const step = [{ slot: 0, tokenId: drawn(logits, random()), position: PROMPT + i }]
      const [other] = await rounded.step(step, null)
      ;[logits] = await exact.step(step, null)
      const kl = klDivergence(logProbabilities(logits), logProbabilities(other))
      sum += kl
      worst = Math.max(worst, kl)
      if (greatest(logits) === greatest(other)) equal++
      tokens++
    }
  }
  await exact.dispose()
  await rounded.dispose()
  return { kl: sum / tokens, worst, equal, tokens }
}

function logProbabilities(logits: Float32Array): Float64Array {
  const top = logits[greatest(logits)]
  let total = 0
  for (const x of logits) total += Math.exp(x - top)
  return Float64Array.from(logits, (x) => x - top - Math.log(total))
}

function klDivergence(p: Float64Array, q: Float64Array): number {
  let sum = 0
  for (let i = 0; i < p.length; i++) sum += Math.exp(p[i]) * (p[i] - q[i])
  return sum
}

function greatest(values: Float32Array): number {
  let best = 0
  for (let i = 1; i < values.length; i++) if (values[i] > values[best]) best = i
  return best
}

function drawn(logits: Float32Array, at: number): number {
  let rest = at
  const p = logProbabilities(logits)
  for (let i = 0; i < p.length; i++) {
    rest -= Math.exp(p[i])
    if (rest < 0) return i
  }
  return greatest(logits)
}
