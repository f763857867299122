import { SafetensorsFile, SafetensorsFolder } from '@mirastral/safetensors'
import { expect, test } from 'vitest'
import type { LayerError } from '@mirastral/quant'
import {
  checkpointErrors,
  expectedError,
  formatErrorTable,
  largestError,
  quantizationError,
  quantize4bit,
} from '@mirastral/quant'
import { fixture } from './fixtures.js'

/** Independent Gaussian numbers: the Box-Muller transform of a linear congruential generator. */
function gaussians(count: number): Float32Array {
  let state = 7
  const uniform = (): number => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return (state + 0.5) / 2 ** 32
  }
  return Float32Array.from(
    { length: count },
    () => Math.sqrt(-2 * Math.log(uniform())) * Math.cos(2 * Math.PI * uniform()),
  )
}

test.each([
  ['nf4', 32],
  ['nf4', 64],
  ['nf4', 4096],
  ['fp4', 64],
] as const)('the expected error of %s in blocks of %i is that of Gaussian weights', async (quantType, blockSize) => {
  const weights = gaussians(2 ** 20)
  const tensor = quantize4bit(weights, quantType, { blockSize })
  const { meanAbs, rms, maxAbs, weightRms } = await quantizationError(tensor, (start, end) =>
    weights.subarray(start, end),
  )
  const expected = expectedError(quantType, blockSize)
  expect(meanAbs / weightRms / expected.meanAbs).toBeCloseTo(1, 2)
  expect(rms / weightRms / expected.rms).toBeCloseTo(1, 2)
  expect(maxAbs).toBeLessThanOrEqual(largestError(quantType) * Math.max(...tensor.absmax))
})

test('errors are counted exactly', async () => {
  const weights = Float32Array.of(1, -0.5, 0.25, 0)
  const restored = [1, -0.5250730514526367, 0.24611230194568634, 0]
  const errors = restored.map((value, i) => Math.abs(Math.fround(value) - weights[i]))
  expect(await quantizationError(quantize4bit(weights, 'nf4', { shape: [2, 2] }), () => weights)).toEqual({
    quantType: 'nf4',
    blockSize: 64,
    elements: 4,
    weightRms: Math.sqrt((1 + 0.25 + 0.0625) / 4),
    meanAbs: errors.reduce((a, b) => a + b) / 4,
    maxAbs: errors[1],
    rms: Math.sqrt(errors.reduce((a, b) => a + b * b, 0) / 4),
  })
})

test('a quantized checkpoint is compared layer by layer with its original, as a table', async () => {
  const original = await SafetensorsFolder.open(fixture('tiny'))
  const quantized = await SafetensorsFile.open(fixture('tiny-nf4-double/model.safetensors'))
  const rows: LayerError[] = []
  for await (const row of checkpointErrors(original, quantized)) rows.push(row)
  expect(rows).toHaveLength(14)
  const expected = expectedError('nf4', 64).meanAbs
  for (const { meanAbs, weightRms } of rows) {
    // Layers of 18 to 76 blocks: their mean error is within a tenth of the expected one.
    expect(Math.abs(meanAbs / weightRms / expected - 1)).toBeLessThan(0.1)
  }
  const table = formatErrorTable(rows).split('\n')
  expect(table).toHaveLength(17)
  expect(table[2]).toMatch(
    /^\| model\.layers\.0\.mlp\.down_proj\.weight \| 0\.0\d+ \| 7\.\d\d% \| \d\.\d\d% \| \d+\.\d\d% \| 7\.28% \|$/,
  )
  await Promise.all([original.close(), quantized.close()])
})

test('a checkpoint is not compared with the original of another', async () => {
  const original = await SafetensorsFile.open(fixture('codec.safetensors'))
  const quantized = await SafetensorsFile.open(fixture('tiny-nf4/model.safetensors'))
  const compare = async (): Promise<void> => {
    for await (const row of checkpointErrors(original, quantized)) expect.fail(row.name)
  }
  await expect(compare()).rejects.toThrow(/must have the shape \[\d+,\d+\], got nothing/)
  await Promise.all([original.close(), quantized.close()])
})
