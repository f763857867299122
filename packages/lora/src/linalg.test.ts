import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { orthonormalize, randomOrthogonal, topQr, topSvd } from './linalg.js'
import type { DenseWeight, Rows } from './linalg.js'
import { Random } from './random.js'

function weightOf(out: number, width: number, seed: number): DenseWeight {
  const random = new Random(seed)
  return { out, in: width, data: Float32Array.from({ length: out * width }, () => random.normal()) }
}

const at = (x: Rows, i: number, j: number): number => x.data[i * x.length + j]

function inner(x: Rows, i: number, j: number): number {
  let sum = 0
  for (let k = 0; k < x.length; k++) sum += at(x, i, k) * at(x, j, k)
  return sum
}

function expectOrthonormal(x: Rows, tolerance = 1e-10): void {
  for (let i = 0; i < x.count; i++) {
    for (let j = 0; j <= i; j++) expect(Math.abs(inner(x, i, j) - (i === j ? 1 : 0))).toBeLessThan(tolerance)
  }
}

const size = fc.integer({ min: 1, max: 9 })

describe('the singular value decomposition', () => {
  it('of a small matrix gives it back whole, with ordered values and orthonormal vectors', () => {
    fc.assert(
      fc.property(size, size, fc.integer(), (out, width, seed) => {
        const w = weightOf(out, width, seed)
        const rank = Math.min(out, width)
        const { u, s, v } = topSvd(w, rank, new Random(1), 0)
        expectOrthonormal(u, 1e-6)
        expectOrthonormal(v, 1e-6)
        expect([...s]).toEqual([...s].sort((a, b) => b - a))
        w.data.forEach((value, i) => {
          let sum = 0
          for (let k = 0; k < rank; k++) sum += s[k] * at(u, k, Math.floor(i / width)) * at(v, k, i % width)
          expect(Math.abs(sum - value)).toBeLessThan(1e-5)
        })
      }),
      { numRuns: 40 },
    )
  })

  it('of a matrix of low rank has zeros for the rest', () => {
    const column = Float32Array.from({ length: 12 }, (_, i) => Math.floor(i / 4) + 1)
    const { s } = topSvd({ out: 3, in: 4, data: column }, 3, new Random(1), 0)
    expect(s[0]).toBeCloseTo(Math.sqrt(4 * 14), 5)
    expect(s[1]).toBeLessThan(1e-6)
  })

  it('of a large matrix by iteration agrees with the exact one of its factors', () => {
    // Orthonormal directions of known strength, 200 by 210: too large for the exact way.
    const [left, right] = [randomRows(6, 200, 3), randomRows(6, 210, 4)]
    const strength = [32, 16, 8, 4, 2, 1]
    const data = new Float32Array(200 * 210).map((_, i) => {
      return strength.reduce((sum, s, k) => sum + s * at(left, k, Math.floor(i / 210)) * at(right, k, i % 210), 0)
    })
    const { u, s } = topSvd({ out: 200, in: 210, data }, 4, new Random(5), 3)
    s.forEach((value, k) => {
      expect(value / strength[k]).toBeCloseTo(1, 4)
    })
    expectOrthonormal(u)
  })
})

function randomRows(count: number, length: number, seed: number): Rows {
  const random = new Random(seed)
  const data = Float64Array.from({ length: count * length }, () => random.normal())
  return orthonormalize({ count, length, data })
}

describe('orthogonal factors', () => {
  it('of a matrix give back its first columns', () => {
    const w = weightOf(7, 9, 2)
    const { q, r } = topQr(w, 3)
    expectOrthonormal(q, 1e-10)
    for (let i = 0; i < 7; i++) {
      for (let j = 0; j < 3; j++) {
        const sum = [0, 1, 2].reduce((total, k) => total + at(q, k, i) * at(r, k, j), 0)
        expect(sum).toBeCloseTo(w.data[i * 9 + j], 5)
      }
    }
  })

  it('of random numbers are orthogonal', () => {
    expectOrthonormal(randomOrthogonal(12, new Random(6)))
  })

  it('leave zero where a row depends on those before', () => {
    const x = orthonormalize({ count: 2, length: 2, data: Float64Array.of(3, 4, 6, 8) })
    ;[0.6, 0.8, 0, 0].forEach((value, i) => {
      expect(x.data[i]).toBeCloseTo(value, 12)
    })
  })
})
