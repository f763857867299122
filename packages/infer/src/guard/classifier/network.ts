import type { MarkedWord } from './tokens.js'

/** Rows of the word vectors that stand for no word. */
export const endRow = 0
export const unknownRow = 1

/**
 * The weights of the network, row-major: word vectors [rows, width], marker vectors [markers, markerWidth]; for each layer and
 * direction `wx` [3 hidden, inputs], `wh` [3 hidden, hidden] and their biases, in the order reset, update, candidate, where the
 * inputs are a word's and its markers' vectors or, further up, both directions' states of the layer below; `attend`
 * [heads, 2 hidden], which weighs the states of the last layer by the softmax of its products with them; the output
 * `weight` [labels, (2 + heads) 2 hidden] over the maximum, the mean, and these weighted means of the states.
 */
export interface GuardNetwork {
  readonly labels: readonly string[]
  /** Row of each known word; rows 0 and 1 are the end of a sentence and an unknown word. */
  readonly words: ReadonlyMap<string, number>
  readonly markers: ReadonlyMap<string, number>
  readonly width: number
  readonly markerWidth: number
  readonly hidden: number
  readonly layers: number
  readonly heads: number
  readonly vectors: { readonly values: Int8Array; readonly scales: Float32Array }
  /** By name: `markers`, `forward.0.wx`, `forward.0.wh`, `forward.0.bx`, `forward.0.bh`, `backward.0.…`, `attend`, `out.weight`, `out.bias`. */
  readonly weights: ReadonlyMap<string, Float32Array>
}

/** What of a marked word the network can use. */
export function encodeWord(
  network: Pick<GuardNetwork, 'words' | 'markers'>,
  { word, markers }: MarkedWord,
): { row: number; markers: number[] } {
  const row = word === '</s>' ? endRow : (network.words.get(word) ?? unknownRow)
  const known = row === unknownRow ? [...markers, 'unknown'] : markers
  return { row, markers: known.flatMap((name) => network.markers.get(name) ?? []) }
}

/** The probability of each label for a run of words. Time grows linearly with their number. */
export function runNetwork(network: GuardNetwork, words: readonly MarkedWord[]): Map<string, number> {
  let states = withoutRuns(words).map((word) => embed(network, word))
  for (let layer = 0; layer < network.layers; layer += 1) {
    const forward = runDirection(network, `forward.${layer}`, states)
    const backward = runDirection(network, `backward.${layer}`, states.toReversed()).reverse()
    states = forward.map((state, t) => joined(state, backward[t] ?? state))
  }
  const pooled = pool(network, states)
  const logits = affine(tensor(network, 'out.weight'), tensor(network, 'out.bias'), pooled)
  return new Map(network.labels.map((label, l) => [label, sigmoid(logits[l] ?? 0)]))
}

function joined(a: Float32Array, b: Float32Array): Float32Array {
  const both = new Float32Array(a.length + b.length)
  both.set(a)
  both.set(b, a.length)
  return both
}

/** A word that is repeated over and over says no more than twice. */
function withoutRuns(words: readonly MarkedWord[]): MarkedWord[] {
  return words.filter(({ word }, i) => words[i - 1]?.word !== word || words[i - 2]?.word !== word)
}

/** The maximum of the states comes first, then their mean, then for each head the mean by its weights. */
function pool(network: GuardNetwork, states: readonly Float32Array[]): Float32Array {
  const { hidden, heads } = network
  const width = 2 * hidden
  const pooled = new Float32Array((2 + heads) * width)
  const attend = tensor(network, 'attend')
  const even = states.map(() => 1 / states.length)
  const weights = Array.from({ length: heads }, (_, head) =>
    softmax(states.map((state) => dot(attend, head * width, state))),
  )
  for (let j = 0; j < width; j += 1) {
    pooled[j] = states.reduce((most, state) => Math.max(most, state[j] ?? 0), -10)
    ;[even, ...weights].forEach((own, n) => {
      pooled[(n + 1) * width + j] = states.reduce((sum, state, t) => sum + (own[t] ?? 0) * (state[j] ?? 0), 0)
    })
  }
  return pooled
}

function softmax(values: readonly number[]): number[] {
  const most = Math.max(...values)
  const powers = values.map((value) => Math.exp(value - most))
  const sum = powers.reduce((a, b) => a + b, 0)
  return powers.map((power) => power / sum)
}

function embed(network: GuardNetwork, word: MarkedWord): Float32Array {
  const { width, markerWidth, vectors } = network
  const input = new Float32Array(width + markerWidth)
  const { row, markers } = encodeWord(network, word)
  const scale = vectors.scales[row] ?? 0
  for (let i = 0; i < width; i += 1) input[i] = (vectors.values[row * width + i] ?? 0) * scale
  const table = tensor(network, 'markers')
  for (const marker of markers)
    for (let i = 0; i < markerWidth; i += 1)
      input[width + i] = (input[width + i] ?? 0) + (table[marker * markerWidth + i] ?? 0)
  return input
}

/** A gated recurrent unit (Cho et al. 2014, in PyTorch's arrangement): its state after each input. */
function runDirection(network: GuardNetwork, name: string, inputs: readonly Float32Array[]): Float32Array[] {
  const { hidden } = network
  const [wx, wh] = [tensor(network, `${name}.wx`), tensor(network, `${name}.wh`)]
  const [bx, bh] = [tensor(network, `${name}.bx`), tensor(network, `${name}.bh`)]
  let state = new Float32Array(hidden)
  return inputs.map((input) => {
    const x = affine(wx, bx, input)
    const h = affine(wh, bh, state)
    const next = new Float32Array(hidden)
    for (let j = 0; j < hidden; j += 1) {
      const reset = sigmoid((x[j] ?? 0) + (h[j] ?? 0))
      const update = sigmoid((x[hidden + j] ?? 0) + (h[hidden + j] ?? 0))
      const candidate = Math.tanh((x[2 * hidden + j] ?? 0) + reset * (h[2 * hidden + j] ?? 0))
      next[j] = candidate + update * ((state[j] ?? 0) - candidate)
    }
    state = next
    return next
  })
}

function tensor(network: GuardNetwork, name: string): Float32Array {
  const found = network.weights.get(name)
  if (!found) throw new Error(`internal: guard network: no tensor ${name}`)
  return found
}

/** `W x + b` for W [rows, columns], row-major: four rows at a time, so that each element of x is read once for four products. */
function affine(weight: Float32Array, bias: Float32Array, x: Float32Array): Float32Array {
  const [rows, columns] = [bias.length, x.length]
  const y = new Float32Array(rows)
  const whole = rows - (rows % 4)
  for (let row = 0; row < whole; row += 4) {
    const first = row * columns
    const [second, third, fourth] = [first + columns, first + 2 * columns, first + 3 * columns]
    let [a, b, c, d] = [bias[row], bias[row + 1], bias[row + 2], bias[row + 3]]
    for (let i = 0; i < columns; i += 1) {
      const value = x[i]
      a += weight[first + i] * value
      b += weight[second + i] * value
      c += weight[third + i] * value
      d += weight[fourth + i] * value
    }
    y[row] = a
    y[row + 1] = b
    y[row + 2] = c
    y[row + 3] = d
  }
  for (let row = whole; row < rows; row += 1) y[row] = bias[row] + dot(weight, row * columns, x)
  return y
}

/** Of a row of a matrix, from `start` on, and x. */
function dot(weight: Float32Array, start: number, x: Float32Array): number {
  let sum = 0
  for (let i = 0; i < x.length; i += 1) sum += weight[start + i] * x[i]
  return sum
}

const sigmoid = (x: number): number => 1 / (1 + Math.exp(-x))
