import type { DeviceState, EvaluateResult, Merging, StateTensor, TrainStep } from '@mirastral/trainer'

/** What the test step needs of a batch: pairs of a token and the token that follows it, -100 where it is not trained. */
export interface PairBatch {
  readonly inputIds: Int32Array
  readonly targets: Int32Array
}

export interface BigramOptions {
  readonly vocabSize: number
  readonly hiddenSize: number
  readonly rank: number
  readonly scale: number
  /** Frozen: embeddings [vocab, hidden] and head [vocab, hidden]. */
  readonly embedding: Float32Array
  readonly head: Float32Array
  /** Initial adapter: A [rank, hidden], B [vocab, rank]. */
  readonly loraA: Float32Array
  readonly loraB: Float32Array
  readonly beta1?: number
  readonly beta2?: number
  readonly epsilon?: number
  readonly weightDecay?: number
  readonly maxGradNorm?: number
  /** Probability of dropping an element of the embedding, drawn from the number of the micro-step. */
  readonly dropout?: number
}

const keyA = 'base_model.model.lm_head.lora_A.weight'
const keyB = 'base_model.model.lm_head.lora_B.weight'

interface Parameter {
  readonly key: string
  readonly shape: readonly number[]
  readonly weight: Float32Array
  readonly m: Float32Array
  readonly v: Float32Array
  readonly gradient: Float32Array
}

/**
 * The smallest model with a LoRA adapter, in plain TypeScript: the embedding of a token, and a linear head with an adapter that
 * predicts the token after it. Loss, gradients, clipping and AdamW are those of the real thing; equal calls give equal bits.
 */
export class BigramStep implements TrainStep<PairBatch> {
  /** Rows whose lengths leave the same rest can be merged: enough for windows that fall into groups. */
  readonly merging: Merging<PairBatch> = {
    preferred: false,
    key: ({ inputIds }) => String(inputIds.length % 3),
    tokens: ({ inputIds }) => inputIds.length,
    accumulate: async (batches, at) => {
      const sums = { lossSum: 0, tokens: 0 }
      for (const [i, batch] of batches.entries()) {
        const { lossSum, tokens } = await this.accumulate(batch, at[i])
        sums.lossSum += lossSum
        sums.tokens += tokens
      }
      return sums
    },
    isOutOfMemory: () => false,
  }
  private readonly a: Parameter
  private readonly b: Parameter

  constructor(private readonly options: BigramOptions) {
    const { rank, hiddenSize, vocabSize } = options
    this.a = parameter(keyA, [rank, hiddenSize], options.loraA)
    this.b = parameter(keyB, [vocabSize, rank], options.loraB)
  }

  accumulate(batch: PairBatch, at: { microStep: number }): Promise<{ lossSum: number; tokens: number }> {
    const { lossSum, tokens } = this.forward(batch, (x, h, logits, target) => this.backward(x, h, logits, target), at)
    return Promise.resolve({ lossSum, tokens })
  }

  evaluate(batch: PairBatch): Promise<EvaluateResult> {
    return Promise.resolve(this.forward(batch, () => undefined, null))
  }

  update({
    learningRate,
    step,
    tokens,
  }: {
    learningRate: number
    step: number
    tokens: number
  }): Promise<{ gradNorm: number }> {
    const { beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8, weightDecay = 0, maxGradNorm = 1 } = this.options
    const parameters = [this.a, this.b]
    let squares = 0
    for (const { gradient } of parameters) for (const g of gradient) squares += (g / tokens) ** 2
    const gradNorm = Math.sqrt(squares)
    const clip = maxGradNorm > 0 ? Math.min(1, maxGradNorm / (gradNorm + 1e-6)) : 1
    for (const { weight, m, v, gradient } of parameters) {
      for (let i = 0; i < weight.length && Number.isFinite(gradNorm); i++) {
        const g = (gradient[i] / tokens) * clip
        m[i] = beta1 * m[i] + (1 - beta1) * g
        v[i] = beta2 * v[i] + (1 - beta2) * g * g
        const denominator = Math.sqrt(v[i]) / Math.sqrt(1 - beta2 ** step) + epsilon
        const decayed = weight[i] * (1 - learningRate * weightDecay)
        weight[i] = decayed - ((learningRate / (1 - beta1 ** step)) * m[i]) / denominator
      }
      gradient.fill(0)
    }
    return Promise.resolve({ gradNorm })
  }

  readState(): Promise<DeviceState> {
    const state: DeviceState = new Map()
    for (const { name, shape, data } of this.tensors()) state.set(name, { shape, data: data.slice() })
    return Promise.resolve(state)
  }

  writeState(state: DeviceState): Promise<void> {
    const targets = new Map(this.tensors().map((tensor) => [tensor.name, tensor]))
    for (const [name, { data }] of state) {
      const target = targets.get(name)
      if (target?.data.length !== data.length) throw new Error(`no state tensor ${name} of ${data.length} elements`)
      target.data.set(data)
    }
    return Promise.resolve()
  }

  dispose(): Promise<void> {
    return Promise.resolve()
  }

  private tensors(): (StateTensor & { name: string })[] {
    return [this.a, this.b].flatMap(({ key, shape, weight, m, v, gradient }) => [
      { name: `adapter/${key}`, shape, data: weight },
      { name: `moments/m/${key}`, shape, data: m },
      { name: `moments/v/${key}`, shape, data: v },
      { name: `gradients/${key}`, shape, data: gradient },
    ])
  }

  private forward(
    { inputIds, targets }: PairBatch,
    eachTrained: (x: Float32Array, h: Float32Array, logits: Float32Array, target: number) => void,
    at: { microStep: number } | null,
  ): EvaluateResult {
    const { hiddenSize, embedding, dropout = 0 } = this.options
    const keep = at && dropout > 0 ? dropoutMask(at.microStep, dropout) : null
    let [lossSum, tokens, correct] = [0, 0, 0]
    for (let i = 0; i < inputIds.length; i++) {
      if (targets[i] === -100) continue
      const x = embedding.slice(inputIds[i] * hiddenSize, (inputIds[i] + 1) * hiddenSize)
      if (keep) for (let k = 0; k < hiddenSize; k++) x[k] *= keep(i * hiddenSize + k)
      const { h, logits } = this.logits(x)
      const largest = Math.max(...logits)
      const logSum = largest + Math.log(logits.reduce((sum, z) => sum + Math.exp(z - largest), 0))
      lossSum += logSum - logits[targets[i]]
      tokens++
      if (logits.indexOf(largest) === targets[i]) correct++
      eachTrained(x, h, logits, targets[i])
    }
    return { lossSum, tokens, correct }
  }

  private logits(x: Float32Array): { h: Float32Array; logits: Float32Array } {
    const { vocabSize, hiddenSize, rank, scale, head } = this.options
    const h = new Float32Array(rank)
    for (let r = 0; r < rank; r++) h[r] = dot(this.a.weight, r * hiddenSize, x)
    const logits = new Float32Array(vocabSize)
    for (let v = 0; v < vocabSize; v++)
      logits[v] = dot(head, v * hiddenSize, x) + scale * dot(this.b.weight, v * rank, h)
    return { h, logits }
  }

  private backward(x: Float32Array, h: Float32Array, logits: Float32Array, target: number): void {
    const { vocabSize, hiddenSize, rank, scale } = this.options
    const largest = Math.max(...logits)
    const weights = logits.map((z) => Math.exp(z - largest))
    const sum = weights.reduce((total, w) => total + w, 0)
    const dh = new Float32Array(rank)
    for (let v = 0; v < vocabSize; v++) {
      const dz = scale * (weights[v] / sum - (v === target ? 1 : 0))
      for (let r = 0; r < rank; r++) {
        dh[r] += dz * this.b.weight[v * rank + r]
        this.b.gradient[v * rank + r] += dz * h[r]
      }
    }
    for (let r = 0; r < rank; r++) {
      for (let k = 0; k < hiddenSize; k++) this.a.gradient[r * hiddenSize + k] += dh[r] * x[k]
    }
  }
}

function parameter(key: string, shape: readonly number[], initial: Float32Array): Parameter {
  const zeros = (): Float32Array => new Float32Array(initial.length)
  return { key, shape, weight: initial.slice(), m: zeros(), v: zeros(), gradient: zeros() }
}

function dot(matrix: Float32Array, begin: number, x: Float32Array): number {
  let sum = 0
  for (let k = 0; k < x.length; k++) sum += matrix[begin + k] * x[k]
  return sum
}

/** Inverted dropout from a counter: the same element of the same micro-step is always kept or always dropped. */
function dropoutMask(microStep: number, probability: number): (element: number) => number {
  return (element) => (uniform(microStep * 1_000_003 + element) < probability ? 0 : 1 / (1 - probability))
}

/** A number in [0, 1) from an integer (the mixing function of MurmurHash3). */
export function uniform(seed: number): number {
  let x = (seed ^ (seed >>> 16)) >>> 0
  x = Math.imul(x + 0x9e3779b9, 0x85ebca6b)
  x = Math.imul(x ^ (x >>> 13), 0xc2b2ae35)
  return ((x ^ (x >>> 16)) >>> 0) / 2 ** 32
}
