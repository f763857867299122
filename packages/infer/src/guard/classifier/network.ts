import type { MarkedWord } from './tokens.js'

/** Rows of the word vectors that stand for no word. */
export const endRow = 0
export const unknownRow = 1

/**
 * The weights of the network, row-major: word vectors [rows, width], marker vectors [markers, markerWidth]; for each direction
 * `wx` [3 hidden, width + markerWidth], `wh` [3 hidden, hidden] and their biases, in the order reset, update, candidate; the
 * output `weight` [labels, 4 hidden] over the maximum and the mean of both directions' states.
 */
export interface GuardNetwork {
  readonly labels: readonly string[]
  /** Row of each known word; rows 0 and 1 are the end of a sentence and an unknown word. */
  readonly words: ReadonlyMap<string, number>
  readonly markers: ReadonlyMap<string, number>
  readonly width: number
  readonly markerWidth: number
  readonly hidden: number
  readonly vectors: { readonly values: Int8Array; readonly scales: Float32Array }
  /** By name: `markers`, `forward.wx`, `forward.wh`, `forward.bx`, `forward.bh`, `backward.…`, `out.weight`, `out.bias`. */
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
  const inputs = withoutRuns(words).map((word) => embed(network, word))
  const pooled = new Float32Array(4 * network.hidden)
  pool(network, runDirection(network, 'forward', inputs), pooled, 0)
  pool(network, runDirection(network, 'backward', inputs.toReversed()), pooled, network.hidden)
  const logits = affine(tensor(network, 'out.weight'), tensor(network, 'out.bias'), pooled)
  return new Map(network.labels.map((label, l) => [label, sigmoid(logits[l] ?? 0)]))
}

/** A word that is repeated over and over says no more than twice. */
function withoutRuns(words: readonly MarkedWord[]): MarkedWord[] {
  return words.filter(({ word }, i) => words[i - 1]?.word !== word || words[i - 2]?.word !== word)
}

/** The maximum of the states comes first (both directions), then their mean. */
function pool(network: GuardNetwork, states: readonly Float32Array[], pooled: Float32Array, at: number): void {
  const { hidden } = network
  for (let j = 0; j < hidden; j += 1) {
    let [highest, sum] = [-10, 0]
    for (const state of states) {
      const value = state[j] ?? 0
      if (value > highest) highest = value
      sum += value
    }
    pooled[at + j] = highest
    pooled[2 * hidden + at + j] = sum / Math.max(1, states.length)
  }
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

/** `W x + b` for W [rows, columns], row-major. */
function affine(weight: Float32Array, bias: Float32Array, x: Float32Array): Float32Array {
  const [rows, columns] = [bias.length, x.length]
  const y = new Float32Array(rows)
  for (let row = 0; row < rows; row += 1) {
    let sum = bias[row]
    const start = row * columns
    for (let i = 0; i < columns; i += 1) sum += weight[start + i] * x[i]
    y[row] = sum
  }
  return y
}

const sigmoid = (x: number): number => 1 / (1 + Math.exp(-x))
