import { quantizeNf4 } from '@mirastral/quant'
import { describe, expect, test } from 'vitest'
import { f32, Graph, linear, nf4, ortBackend } from '../../index.js'
import { TestRandom } from '../../testing/index.js'
import { PACKED_BLOCK } from '../backend.js'
import { roundInt4, roundInt8 } from './prepack.js'

const rows = 24
const columns = 80
const normal = (seed: string, count: number): Float32Array => {
  const random = new TestRandom(seed)
  return Float32Array.from({ length: count }, () => random.normal())
}
const values = normal('values', rows * columns)

/** The matrix that the codes stand for. */
function expand(bits: 4 | 8, matrix: ReturnType<typeof roundInt8>): Float32Array {
  const blocks = Math.ceil(columns / PACKED_BLOCK)
  const nibble = (bytes: Uint8Array, i: number): number => (bytes[i >> 1] >> (4 * (i % 2))) & 15
  return Float32Array.from({ length: rows * columns }, (_, i) => {
    const [row, column] = [Math.floor(i / columns), i % columns]
    const block = row * blocks + Math.floor(column / PACKED_BLOCK)
    const at = block * PACKED_BLOCK + (column % PACKED_BLOCK)
    if (bits === 8) return (matrix.codes[at] - 128) * matrix.scales[block]
    const zeros = matrix.zeros ?? new Uint8Array()
    const zero = nibble(zeros.subarray(row * Math.ceil(blocks / 2)), Math.floor(column / PACKED_BLOCK))
    return (nibble(matrix.codes, at) - zero) * matrix.scales[block]
  })
}

describe('rounding a constant', () => {
  test('to 8 bits is off by half a step at most', () => {
    const matrix = roundInt8(values, rows, columns)
    const back = expand(8, matrix)
    const blocks = Math.ceil(columns / PACKED_BLOCK)
    const excess = values.map((x, i) => {
      const block = Math.floor(i / columns) * blocks + Math.floor((i % columns) / PACKED_BLOCK)
      return Math.abs(back[i] - x) - matrix.scales[block] * 0.50001
    })
    expect(Math.max(...excess)).toBeLessThanOrEqual(0)
  })

  test('to 4 bits keeps zero and is no worse than a grid over the whole range', () => {
    const sparse = values.map((x, i) => (i % 3 === 0 ? 0 : x))
    const back = expand(4, roundInt4(sparse, rows, columns))
    expect([...back.filter((_, i) => i % 3 === 0)]).toEqual(new Array(rows * columns / 3).fill(0)) // prettier-ignore
    const error = back.reduce((sum, x, i) => sum + (x - sparse[i]) ** 2, 0) / sparse.length
    expect(error).toBeLessThan(0.012)
    expect(error).toBeGreaterThan(0)
  })

  test('of zeros gives zeros', () => {
    const nothing = new Float32Array(rows * columns)
    expect([...expand(4, roundInt4(nothing, rows, columns))]).toEqual([...nothing])
    expect([...expand(8, roundInt8(nothing, rows, columns))]).toEqual([...nothing])
  })
})

describe('a program whose constants are laid out anew', () => {
  const kinds = ['dense', 'nf4'] as const
  test.each(kinds.flatMap((kind) => (['exact', 'int8', 'int4'] as const).map((packing) => [kind, packing] as const)))(
    'multiplies with a %s weight as %s',
    async (kind, packing) => {
      const shape = [32, 128]
      const [data, x] = [normal('weight', 32 * 128), normal('x', 3 * 128)]
      const g = new Graph('g')
      const type = kind === 'dense' ? f32(...shape) : nf4(shape)
      g.output('y', linear(g.input('x', f32(3, 128)), g.constant('w', type)))
      const session = await ortBackend({ threads: 1, worker: false }).createSession()
      await session.bind('w', kind === 'dense' ? { type: f32(...shape), data } : quantizeNf4(data, { shape }))
      const [plain, packed] = [
        await session.compile(g.build()),
        await session.compile(g.build(), { prepackConstants: { w: packing } }),
      ]
      const [expected, got] = [(await plain.run({ x })).y, (await packed.run({ x })).y]
      const difference = Math.max(...got.map((v, i) => Math.abs(v - expected[i])))
      // Rows of 128 normal numbers: products have deviation 11.
      expect(difference).toBeLessThan({ exact: 1e-4, int8: 0.7, int4: 6 }[packing])
      if (packing !== 'exact') expect(difference).toBeGreaterThan(1e-3)
      if (kind === 'dense') {
        await expect(session.bind('w', { type: f32(...shape), data })).rejects.toThrow("'w' is prepacked by g")
        await packed.dispose()
        await session.bind('w', { type: f32(...shape), data })
      }
      await session.dispose()
    },
  )

  test('needs its constants before it is compiled', async () => {
    const g = new Graph('g')
    g.output('y', linear(g.input('x', f32(1, 32)), g.constant('w', f32(32, 32))))
    const session = await ortBackend({ threads: 1, worker: false }).createSession()
    await expect(session.compile(g.build(), { prepackConstants: { w: 'int8' } })).rejects.toThrow('is not bound')
    await session.dispose()
  })
})
