import { createHash } from 'node:crypto'
import { SafetensorsFile } from '@mirastral/safetensors'
import { DYNAMIC_MAP, nestAbsmax, torchMean, unnestAbsmax } from '@mirastral/quant'
import { afterAll, expect, test } from 'vitest'
import { bytes, expectSame, fixture, readF32 } from './fixtures.js'

const goldens = await SafetensorsFile.open(fixture('double-quant.safetensors'))
const names = JSON.parse(goldens.metadata.names) as string[]
afterAll(() => goldens.close())

test('the dynamic map is the one that bitsandbytes makes', () => {
  const hash = createHash('sha256')
    .update(bytes(Float32Array.from(DYNAMIC_MAP)))
    .digest('hex')
  expect(hash).toBe('e732639a65f497b4ad684bb166a4467708255edd5207757de8b8f0c7e1fda89c')
})

test.each(names)('double quantization of %s absmax equals bitsandbytes bit for bit, both ways', async (name) => {
  const nested = nestAbsmax(await readF32(goldens, `${name}/absmax`))
  expect(nested.offset).toBe((await readF32(goldens, `${name}/offset`))[0])
  expectSame(nested.codes, await goldens.read(`${name}/codes`))
  expectSame(nested.absmax, await readF32(goldens, `${name}/nested_absmax`))
  expectSame(unnestAbsmax(nested), await readF32(goldens, `${name}/restored`))
})

test('the mean of many values is that of PyTorch with as many threads', async () => {
  const many = await readF32(goldens, 'many')
  const means = [32768, 32769, 70001].map((count) => torchMean(many.subarray(0, count), 4))
  expectSame(Float32Array.from(means), await readF32(goldens, 'means'))
})

test('a mean that overflows is refused with the name of the tensor', () => {
  expect(() => nestAbsmax(new Float32Array(300).fill(3e38), { name: 'w' })).toThrow(/nestAbsmax w: .* got Infinity/)
})
