import { expect, test } from 'vitest'
import { formatQuantState, pythonFloat } from './quant-state.js'

test.each([
  [2.5953025817871094, '2.5953025817871094'],
  [1, '1.0'],
  [-0, '-0.0'],
  [0, '0.0'],
  [123456789, '123456789.0'],
  [0.0001, '0.0001'],
  [0.00001, '1e-05'],
  [0.000012345, '1.2345e-05'],
  [1.5e-45, '1.5e-45'],
  [1e15, '1000000000000000.0'],
  [1e16, '1e+16'],
  [1.25e22, '1.25e+22'],
  [-3.4e38, '-3.4e+38'],
])('the double %d is written as Python writes it: %s', (value, text) => {
  expect(pythonFloat(value)).toBe(text)
})

test('a description is the text that Python makes of the same values', () => {
  const state = { quantType: 'nf4', blockSize: 64, dtype: 'bfloat16', shape: [512, 256] } as const
  const decode = (bytes: Uint8Array): string => Buffer.from(bytes).toString()
  expect(decode(formatQuantState(state))).toBe(
    '{"quant_type": "nf4", "blocksize": 64, "dtype": "bfloat16", "shape": [512, 256]}',
  )
  expect(decode(formatQuantState({ ...state, nestedOffset: 0.5 }))).toBe(
    '{"quant_type": "nf4", "blocksize": 64, "dtype": "bfloat16", "shape": [512, 256], "nested_blocksize": 256, "nested_dtype": "float32", "nested_offset": 0.5}',
  )
})
