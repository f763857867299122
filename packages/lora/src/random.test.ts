import { describe, expect, it } from 'vitest'
import { Random } from './random.js'

const draw = (random: Random, count: number): number[] => Array.from({ length: count }, () => random.nextUint32())

describe('the seeded generator', () => {
  it('gives numbers that never change', () => {
    expect(draw(new Random(42, 'model.layers.0'), 4)).toMatchInlineSnapshot(`
      [
        3849975529,
        693881372,
        4058507720,
        3975827320,
      ]
    `)
    expect(draw(new Random(0), 2)).toMatchInlineSnapshot(`
      [
        3809008728,
        1133695204,
      ]
    `)
  })

  it('differs by seed, by the upper half of a large seed, and by stream', () => {
    const first = [new Random(1), new Random(2), new Random(1 + 2 ** 32), new Random(1, 'a'), new Random(1, 'b')]
    expect(new Set(first.map((random) => draw(random, 2).join())).size).toBe(5)
  })

  it('is uniform and normal to four moments', () => {
    const random = new Random(7)
    const moments = (values: readonly number[]): number[] =>
      [1, 2, 3, 4].map((power) => values.reduce((sum, x) => sum + x ** power, 0) / values.length)
    const uniform = Array.from({ length: 40_000 }, () => random.uniform() - 0.5)
    const normal = Array.from({ length: 40_000 }, () => random.normal())
    expect(uniform.every((x) => x >= -0.5 && x < 0.5)).toBe(true)
    const expected = [
      [0, 1 / 12, 0, 1 / 80],
      [0, 1, 0, 3],
    ]
    ;[moments(uniform), moments(normal)].forEach((found, i) => {
      found.forEach((moment, power) => {
        expect(Math.abs(moment - expected[i][power])).toBeLessThan(i === 0 ? 0.005 : 0.1)
      })
    })
  })
})
