import { expect, test } from 'vitest'
import type { FloatSource } from '@mirastral/quant'
import { QuantError, QuantPool, dequantize4bit, quantize4bit, quantizeNf4, torchMean } from '@mirastral/quant'

const infinite = 0x7f800000
const sources: [string, (length: number, index: number, bits: number) => FloatSource][] = [
  [
    'float32',
    (length, index, bits) => {
      const data = new Float32Array(length).fill(0.25)
      new Uint32Array(data.buffer)[index] = bits
      return data
    },
  ],
  [
    'bfloat16',
    (length, index, bits) => {
      const data = new Uint16Array(length).fill(0x3e80)
      data[index] = bits >>> 16
      return { dtype: 'bf16', data }
    },
  ],
  [
    'float16',
    (length, index, bits) => {
      const data = new Uint16Array(length).fill(0x3400)
      data[index] = ((bits >>> 16) & 0x8000) | 0x7c00 | ((bits & 0x7fffff) === 0 ? 0 : 0x200)
      return { dtype: 'f16', data }
    },
  ],
]

test.each(sources)(
  'an infinite or NaN %s is refused with the tensor and the element, in a whole and in a short block',
  (_dtype, make) => {
    for (const quantType of ['nf4', 'fp4'] as const) {
      for (const index of [0, 63, 64, 127, 9000, 9001]) {
        for (const [bits, name] of [
          [infinite, 'Infinity'],
          [infinite + 2 ** 31, '-Infinity'],
          [0x7fc00000, 'NaN'],
        ] as const) {
          const message = `quantize layer.weight: weights must be finite, got ${name} at element ${index}; the checkpoint is damaged`
          const attempt = (): unknown => quantize4bit(make(9002, index, bits), quantType, { name: 'layer.weight' })
          expect(attempt).toThrow(new QuantError('non-finite', message))
        }
      }
    }
  },
)

test('wrong arguments name the rule and what was given', () => {
  const data = new Float32Array(6)
  expect(() => quantizeNf4(data, { blockSize: 48 })).toThrow(
    'quantize: blockSize must be one of 32, 64, 128, 256, 512, 1024, 2048, 4096, got 48',
  )
  expect(() => quantizeNf4(data, { shape: [2, 2] })).toThrow(
    'quantize: shape [2,2] must have as many elements as the data, got 6',
  )
  expect(() => quantizeNf4(data, { shape: [-2, -3] })).toThrow('quantize: the shape must have whole sizes, got [-2,-3]')
  const tensor = quantizeNf4(data)
  expect(() => dequantize4bit(tensor, { start: 0.5 })).toThrow(
    'dequantize: a range must lie within 6 elements, got 0.5 to 6',
  )
  expect(() => dequantize4bit(tensor, { end: 7 })).toThrow('got 0 to 7')
  expect(() => dequantize4bit(tensor, {}, new Float32Array(5))).toThrow('dequantize: out must have 6 elements, got 5')
  expect(() => QuantPool.start({ threads: 0 })).toThrow('QuantPool: threads must be a whole number from 1 on, got 0')
  expect(new QuantError('usage', '')).toMatchObject({ code: 'MIRASTRAL_QUANT', exitCode: 2 })
  expect(new QuantError('io', '')).toMatchObject({ exitCode: 1 })
})

test('nothing at all is quantized to nothing at all', () => {
  const tensor = quantizeNf4(new Float32Array(0), { shape: [0, 4] })
  expect(tensor).toEqual({
    quantType: 'nf4',
    shape: [0, 4],
    blockSize: 64,
    dtype: 'float32',
    codes: new Uint8Array(0),
    absmax: new Float32Array(0),
  })
  expect(dequantize4bit(tensor)).toEqual(new Float32Array(0))
  expect(torchMean(new Float32Array([2]))).toBe(2)
})

test('weights that begin at an odd place of a larger array are quantized like a copy of them', () => {
  const data = Uint16Array.from({ length: 201 }, (_, i) => 0x3e00 + ((i * 37) % 300))
  expect(quantizeNf4({ dtype: 'bf16', data: data.subarray(1) })).toEqual(
    quantizeNf4({ dtype: 'bf16', data: data.slice(1) }),
  )
})
