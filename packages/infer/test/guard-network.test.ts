import { f32, referenceBackend, sizeOf } from '@mirastral/engine'
import { quantizeRows, runNetwork } from '@mirastral/infer'
import type { GuardNetwork, MarkedWord } from '@mirastral/infer'
import { describe, expect, it } from 'vitest'
import { forwardProgram, tensorShapes } from '../../../bench/lib/guard-network.js'

const sizes = { rows: 5, markers: 3, labels: 4, width: 6, markerWidth: 4, hidden: 5, layers: 2, heads: 3 }
const wave = (length: number, from: number): Float32Array =>
  Float32Array.from({ length }, (_, i) => 0.7 * Math.sin(from + 1.3 * i))

const vectors = quantizeRows(wave(sizes.rows * sizes.width, 1), sizes.width)
const weights = new Map(
  [...tensorShapes(sizes)]
    .filter(([name]) => name !== 'vectors')
    .map(([name, shape], i) => [name, wave(sizeOf(shape), i)]),
)
const network: GuardNetwork = {
  labels: ['a', 'b', 'c', 'd'],
  words: new Map([
    ['two', 2],
    ['three', 3],
    ['four', 4],
  ]),
  markers: new Map([
    ['</s>', 0],
    ['unknown', 1],
    ['mark', 2],
  ]),
  width: sizes.width,
  markerWidth: sizes.markerWidth,
  hidden: sizes.hidden,
  layers: sizes.layers,
  heads: sizes.heads,
  vectors,
  weights,
}

/** Texts with the rows and markers that they mean. */
const texts: { words: MarkedWord[]; rows: number[]; marks: number[][] }[] = [
  {
    words: [
      { word: 'two', markers: ['mark'] },
      { word: 'other', markers: [] },
      { word: 'four', markers: [] },
      { word: '</s>', markers: ['</s>'] },
    ],
    rows: [2, 1, 4, 0],
    marks: [[2], [1], [], [0]],
  },
  { words: [{ word: 'three', markers: ['mark'] }], rows: [3], marks: [[2]] },
]

describe('the network in plain TypeScript', () => {
  it('gives what the program gives that the engine trains, padded or not', async () => {
    const [batch, length] = [texts.length, 6]
    const session = await referenceBackend().createSession()
    for (const [name, shape] of tensorShapes(sizes)) {
      const table = Float32Array.from(vectors.values, (v, i) => v * vectors.scales[Math.floor(i / sizes.width)])
      await session.bind(name, { type: f32(...shape), data: name === 'vectors' ? table : (weights.get(name) ?? table) })
    }
    const ids = new Int32Array(length * batch)
    const mask = new Float32Array(length * batch)
    const marks = new Float32Array(length * batch * sizes.markers)
    texts.forEach((text, b) =>
      text.rows.forEach((row, t) => {
        ids[t * batch + b] = row
        mask[t * batch + b] = 1
        for (const m of text.marks[t]) marks[(t * batch + b) * sizes.markers + m] = 1
      }),
    )
    const program = await session.compile(forwardProgram(sizes, batch, length))
    const { logits } = await program.run({ ids, marks, mask })
    texts.forEach((text, b) => {
      const probabilities = [...runNetwork(network, text.words).values()]
      probabilities.forEach((p, l) => expect(p).toBeCloseTo(1 / (1 + Math.exp(-logits[b * sizes.labels + l])), 5))
    })
    await session.dispose()
  })
})
