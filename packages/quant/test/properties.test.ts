import { bf16ToF32, f16ToF32 } from '@mirastral/safetensors'
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { BLOCK_SIZES, dequantize4bit, dequantize4bitToBits, quantize4bit, quantizeNf4 } from '@mirastral/quant'
import { expectSame } from './fixtures.js'

const quantType = fc.constantFrom('nf4', 'fp4')
const smallBlock = fc.constantFrom(32, 64, 128)

/** Finite 16-bit floats: most of them within a few octaves, as weights are, some of any size, zeros and subnormals. */
function halves(dtype: 'f16' | 'bf16', infinity: number): fc.Arbitrary<Uint16Array> {
  const one = dtype === 'f16' ? 0x3c00 : 0x3f80
  const octave = dtype === 'f16' ? 0x400 : 0x80
  const signed = (magnitude: fc.Arbitrary<number>): fc.Arbitrary<number> =>
    fc.tuple(fc.boolean(), magnitude).map(([negative, bits]) => (negative ? 0x8000 : 0) | bits)
  const usual = signed(fc.integer({ min: one - 9 * octave, max: one }))
  const any = signed(fc.integer({ min: 0, max: infinity - 1 }))
  const values = fc.oneof({ weight: 9, arbitrary: usual }, { weight: 1, arbitrary: any })
  const typical = fc.array(fc.oneof({ weight: 8, arbitrary: usual }, signed(fc.constant(0))), { maxLength: 400 })
  return fc
    .oneof(typical, fc.array(values, { maxLength: 400 }), fc.array(any, { maxLength: 100 }))
    .map((list) => Uint16Array.from(list))
}

test.each([
  ['bf16', bf16ToF32, halves('bf16', 0x7f80)],
  ['f16', f16ToF32, halves('f16', 0x7c00)],
] as const)('%s weights have the codes of the same weights in float32', (dtype, widen, weights) => {
  fc.assert(
    fc.property(weights, quantType, smallBlock, (data, type, blockSize) => {
      const got = quantize4bit({ dtype, data }, type, { blockSize })
      const want = quantize4bit(widen(data), type, { blockSize })
      expectSame(got.codes, want.codes)
      expectSame(got.absmax, want.absmax)
    }),
    { numRuns: 400 },
  )
})

test('every bfloat16 within eight octaves below every mantissa of absmax has the code of float32', () => {
  const blocks: number[] = []
  for (let mantissa = 0; mantissa < 128; mantissa++) {
    const absmax = 0x3c80 + mantissa
    for (let below = 0; below < 1024; below += 31) {
      blocks.push(absmax | (below % 2 === 0 ? 0 : 0x8000))
      for (let i = 0; i < 31; i++) blocks.push(Math.max(absmax - below - i, 0) | (0x8000 * (i % 2)))
    }
  }
  const data = Uint16Array.from(blocks)
  for (const sign of [0, 0x8000]) {
    const flipped = data.map((bits) => bits ^ sign)
    for (const type of ['nf4', 'fp4'] as const) {
      const got = quantize4bit({ dtype: 'bf16', data: flipped }, type, { blockSize: 32 })
      expectSame(got.codes, quantize4bit(bf16ToF32(flipped), type, { blockSize: 32 }).codes)
    }
  }
})

test('no value is further from its original than half of the widest gap of the codebook', () => {
  const weights = fc.array(fc.float({ noNaN: true, noDefaultInfinity: true }), { maxLength: 200 })
  fc.assert(
    fc.property(weights, quantType, (list, type) => {
      const data = Float32Array.from(list)
      const tensor = quantize4bit(data, type, { blockSize: 32 })
      const gap = type === 'nf4' ? 0.152 : 0.1667
      dequantize4bit(tensor).forEach((value, i) => {
        const absmax = tensor.absmax[Math.floor(i / 32)]
        expect(Math.abs(value - data[i])).toBeLessThanOrEqual(gap * absmax + 1e-38)
      })
    }),
  )
})

test('what was dequantized quantizes to the same tensor again', () => {
  fc.assert(
    fc.property(fc.array(fc.float({ min: -1, max: 1, noNaN: true }), { minLength: 1, maxLength: 300 }), (list) => {
      const tensor = quantizeNf4(Float32Array.from(list), { blockSize: 64 })
      const again = quantizeNf4(dequantize4bit(tensor), { blockSize: 64 })
      expect(dequantize4bit(again)).toEqual(dequantize4bit(tensor))
    }),
  )
})

test('a range gives the same values as the whole, into new memory or the caller’s', () => {
  const count = 5 * 64 + 13
  const tensor = quantizeNf4(Float32Array.from({ length: count }, (_, i) => Math.sin(i)))
  const whole = dequantize4bit(tensor)
  const bits = dequantize4bitToBits(tensor, 'float16')
  fc.assert(
    fc.property(fc.nat(count), fc.nat(count), (start, length) => {
      const end = Math.min(start + length, count)
      expectSame(dequantize4bit(tensor, { start, end }, new Float32Array(end - start)), whole.slice(start, end))
      expectSame(dequantize4bitToBits(tensor, 'float16', { start, end }), bits.slice(start, end))
    }),
  )
})

test('every block size of bitsandbytes is accepted', () => {
  const data = new Float32Array(5000).fill(0.5)
  for (const blockSize of BLOCK_SIZES) {
    const tensor = quantizeNf4(data, { blockSize })
    expect(tensor.absmax).toEqual(new Float32Array(Math.ceil(5000 / blockSize)).fill(0.5))
    expect(dequantize4bit(tensor)).toEqual(data)
  }
})
