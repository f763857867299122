import { describe, expect, it } from 'vitest'
import { Q4_BLOCK, q4Sizes, quantizeQ4 } from './q4.js'

/** What MatMulNBits computes with, written down independently. */
function dequantize({ codes, scales }: { codes: Uint8Array; scales: Float32Array }, rows: number, columns: number) {
  const { blocks } = q4Sizes(rows, columns)
  return Float32Array.from({ length: rows * columns }, (_, i) => {
    const [row, column] = [Math.floor(i / columns), i % columns]
    const at = row * blocks * Q4_BLOCK + column
    const code = at % 2 === 0 ? codes[at >> 1] & 15 : codes[at >> 1] >> 4
    return (code - 8) * scales[Math.floor(at / Q4_BLOCK)]
  })
}

describe('quantizeQ4', () => {
  it.each([
    [2, 64],
    [3, 40],
    [1, 7],
  ])('keeps every weight of a %i x %i matrix within half a step, and the largest exactly', (rows, columns) => {
    const values = Float32Array.from({ length: rows * columns }, (_, i) => Math.sin(i * 1.7) * (1 + (i % 5)))
    const quantized = quantizeQ4(values, rows, columns)
    const back = dequantize(quantized, rows, columns)
    const { blocks } = q4Sizes(rows, columns)
    values.forEach((value, i) => {
      const block = Math.floor(i / columns) * blocks + Math.floor((i % columns) / Q4_BLOCK)
      const step = Math.abs(quantized.scales[block])
      // The sixteen codes reach -8 to 7 steps: a value near +8 is one step short at most.
      const limit = Math.abs(value / quantized.scales[block]) > 7 ? step : step / 2
      expect(Math.abs(back[i] - value)).toBeLessThanOrEqual(limit * (1 + 1e-6))
    })
    const largest = values.reduce((top, x) => (Math.abs(x) > Math.abs(top) ? x : top), 0)
    expect(back).toContain(largest)
  })

  it('gives zeros for zeros', () => {
    expect(dequantize(quantizeQ4(new Float32Array(64), 2, 32), 2, 32).every((x) => x === 0)).toBe(true)
  })
})
