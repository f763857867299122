import type { FeatureVector } from './features.js'
import type { LinearClassifier } from './model.js'

/** One training text: its features and how much of each label it carries (0 to 1), with a weight in the loss. */
export interface LabelledVector {
  readonly features: FeatureVector
  /** One target for each label of the classifier. */
  readonly targets: readonly number[]
  readonly weight: number
}

export interface TrainingOptions {
  readonly labels: readonly string[]
  readonly buckets: number
  readonly epochs?: number
  readonly learningRate?: number
  /** L2 penalty on the weights. */
  readonly decay?: number
  readonly seed?: number
}

/**
 * Trains one logistic regression per label by AdaGrad (Duchi, Hazan, Singer 2011) on the cross entropy with an L2 penalty, in
 * a fixed shuffled order: the same examples and options give the same bytes. The weights come out quantized to 8 bits.
 */
export function trainClassifier(examples: readonly LabelledVector[], options: TrainingOptions): LinearClassifier {
  const { labels, buckets, epochs = 25, learningRate = 0.5, decay = 2e-5, seed = 1 } = options
  const random = mulberry32(seed)
  const weights = labels.map(() => new Float64Array(buckets))
  const squares = labels.map(() => new Float64Array(buckets).fill(1e-4))
  const biases = labels.map(() => 0)
  const biasSquares = labels.map(() => 1e-4)
  const order = examples.map((_, i) => i)
  for (let epoch = 0; epoch < epochs; epoch += 1) {
    shuffle(order, random)
    for (const index of order) {
      const example = examples[index]
      if (!example) continue
      for (let l = 0; l < labels.length; l += 1) {
        const w = weights[l] ?? new Float64Array(0)
        const s = squares[l] ?? new Float64Array(0)
        const error =
          (sigmoid(dot(w, example.features) + (biases[l] ?? 0)) - (example.targets[l] ?? 0)) * example.weight
        biasSquares[l] = (biasSquares[l] ?? 0) + error * error
        biases[l] = (biases[l] ?? 0) - (learningRate * error) / Math.sqrt(biasSquares[l] ?? 1)
        step(w, s, example.features, error, learningRate, decay)
      }
    }
  }
  return quantize(labels, buckets, biases, weights)
}

function step(
  weights: Float64Array,
  squares: Float64Array,
  features: FeatureVector,
  error: number,
  learningRate: number,
  decay: number,
): void {
  for (let k = 0; k < features.indices.length; k += 1) {
    const i = features.indices[k] ?? 0
    const gradient = error * (features.values[k] ?? 0) + decay * (weights[i] ?? 0)
    const square = (squares[i] ?? 0) + gradient * gradient
    squares[i] = square
    weights[i] = (weights[i] ?? 0) - (learningRate * gradient) / Math.sqrt(square)
  }
}

function dot(weights: Float64Array, features: FeatureVector): number {
  let sum = 0
  for (let k = 0; k < features.indices.length; k += 1)
    sum += (weights[features.indices[k] ?? 0] ?? 0) * (features.values[k] ?? 0)
  return sum
}

function sigmoid(x: number): number {
  return 1 / (1 + Math.exp(-x))
}

function quantize(
  labels: readonly string[],
  buckets: number,
  biases: readonly number[],
  weights: readonly Float64Array[],
): LinearClassifier {
  const bytes = new Int8Array(labels.length * buckets)
  const scales = weights.map((w, l) => {
    const scale = w.reduce((most, x) => Math.max(most, Math.abs(x)), 1e-9) / 127
    w.forEach((x, b) => (bytes[l * buckets + b] = Math.round(x / scale)))
    return scale
  })
  return { labels, buckets, biases: [...biases], scales, weights: bytes }
}

function shuffle(order: number[], random: () => number): void {
  for (let i = order.length - 1; i > 0; i -= 1) {
    const j = Math.floor(random() * (i + 1))
    const [a, b] = [order[i] ?? 0, order[j] ?? 0]
    order[i] = b
    order[j] = a
  }
}

/** A small generator of uniform numbers in [0, 1) with 32 bits of state. */
export function mulberry32(seed: number): () => number {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let t = state
    t = Math.imul(t ^ (t >>> 15), t | 1)
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61)
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296
  }
}
