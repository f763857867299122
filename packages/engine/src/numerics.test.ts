import { expect, test } from 'vitest'
import { bf16Bits, bf16Value, f16Bits, f16Value } from './numerics.js'

test('every half-precision value survives a round trip', () => {
  for (let h = 0; h < 0x10000; h++) {
    const value = f16Value(h)
    if (!Number.isNaN(value)) expect(f16Bits(value)).toBe(h)
  }
})

test('every bfloat16 value survives a round trip', () => {
  for (let b = 0; b < 0x10000; b++) {
    const value = bf16Value(b)
    if (!Number.isNaN(value)) expect(bf16Bits(value)).toBe(b)
  }
})

test('ties round to even, overflow becomes infinity, NaN stays NaN', () => {
  expect(f16Bits(2049)).toBe(f16Bits(2048))
  expect(f16Bits(2051)).toBe(f16Bits(2052))
  expect(f16Bits(65520)).toBe(0x7c00)
  expect(f16Value(f16Bits(NaN))).toBeNaN()
  expect(f16Bits(2 ** -25)).toBe(0)
  expect(f16Bits(3 * 2 ** -26)).toBe(1)
  expect(bf16Value(bf16Bits(1 + 2 ** -8))).toBe(1)
  expect(bf16Value(bf16Bits(1 + 3 * 2 ** -8))).toBe(1 + 2 ** -6)
  expect(bf16Value(bf16Bits(NaN))).toBeNaN()
})
