import { describe, expect, it } from 'vitest'
import { InferError } from '../../errors.js'
import { decodeNetwork, encodeNetwork, quantizeRows } from './network-file.js'
import { encodeWord, runNetwork } from './network.js'
import type { GuardNetwork } from './network.js'

const [width, markerWidth, hidden, layers, heads] = [3, 2, 2, 2, 1]
const numbers = (length: number, from: number): Float32Array =>
  Float32Array.from({ length }, (_, i) => Math.sin(from + i * 1.7))

const network: GuardNetwork = {
  labels: ['alarm', 'other'],
  words: new Map([
    ['help', 2],
    ['rope', 3],
  ]),
  markers: new Map([
    ['</s>', 0],
    ['unknown', 1],
    ['idiom', 2],
  ]),
  width,
  markerWidth,
  hidden,
  layers,
  heads,
  vectors: quantizeRows(numbers(4 * width, 1), width),
  weights: new Map([
    ['markers', numbers(3 * markerWidth, 2)],
    ...['forward.0', 'backward.0', 'forward.1', 'backward.1'].flatMap((name, i): [string, Float32Array][] => [
      [`${name}.wx`, numbers(3 * hidden * (i < 2 ? width + markerWidth : 2 * hidden), 3 + i)],
      [`${name}.wh`, numbers(3 * hidden * hidden, 5 + i)],
      [`${name}.bx`, numbers(3 * hidden, 7 + i)],
      [`${name}.bh`, numbers(3 * hidden, 9 + i)],
    ]),
    ['attend', numbers(heads * 2 * hidden, 10)],
    ['out.weight', numbers(2 * (2 + heads) * 2 * hidden, 11)],
    ['out.bias', numbers(2, 12)],
  ]),
}

describe('a network file', () => {
  it('gives the same network back, from any place in a buffer', () => {
    const bytes = encodeNetwork(network)
    expect(decodeNetwork(bytes)).toEqual(network)
    const shifted = new Uint8Array(bytes.length + 10)
    shifted.set(bytes, 3)
    expect(decodeNetwork(shifted.subarray(3, 3 + bytes.length))).toEqual(network)
  })

  it('is refused when it is cut, longer, or something else, at every length', () => {
    const bytes = encodeNetwork(network)
    for (let length = 0; length < bytes.length; length += 1)
      expect(() => decodeNetwork(bytes.subarray(0, length)), `${length}`).toThrow(InferError)
    expect(() => decodeNetwork(Uint8Array.of(...bytes, 0))).toThrow('is damaged; install the package again')
    expect(() => decodeNetwork(bytes.map((b, i) => (i === 0 ? b + 1 : b)))).toThrow(InferError)
  })

  it('rounds vectors to within half a step of each row', () => {
    const data = Float32Array.of(1, -0.5, 0.25, 0, 0, 0)
    const { values, scales } = quantizeRows(data, 3)
    data.forEach((x, i) => {
      const step = scales[Math.floor(i / 3)] ?? 0
      expect(Math.abs((values[i] ?? 0) * step - x)).toBeLessThanOrEqual(step / 2 + 1e-7)
    })
  })
})

describe('runNetwork', () => {
  const word = (text: string, ...markers: string[]) => ({ word: text, markers })

  it('gives a probability for each label that depends on the words, their order and their markers', () => {
    const alarm = (...words: ReturnType<typeof word>[]): number => runNetwork(network, words).get('alarm') ?? -1
    const base = alarm(word('help'), word('rope'))
    expect([...runNetwork(network, [word('help')]).keys()]).toEqual(network.labels)
    for (const other of [
      alarm(word('rope'), word('help')),
      alarm(word('help', 'idiom'), word('rope')),
      alarm(word('help'), word('xyzzy')),
    ]) {
      expect(other).toBeGreaterThan(0)
      expect(other).toBeLessThan(1)
      expect(other).not.toBe(base)
    }
  })

  it('marks a word that it does not know, and leaves out markers that it does not know', () => {
    expect(encodeWord(network, word('xyzzy', 'nowhere'))).toEqual({ row: 1, markers: [1] })
    expect(encodeWord(network, word('help', 'idiom'))).toEqual({ row: 2, markers: [2] })
    expect(encodeWord(network, word('</s>', '</s>'))).toEqual({ row: 0, markers: [0] })
  })

  it('answers for no words at all', () => {
    expect(Number.isFinite(runNetwork(network, []).get('alarm'))).toBe(true)
  })
})
