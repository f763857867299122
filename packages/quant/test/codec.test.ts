import { SafetensorsFile } from '@mirastral/safetensors'
import type { QuantType } from '@mirastral/quant'
import { dequantize4bit, dequantize4bitToBits, quantize4bit } from '@mirastral/quant'
import { afterAll, test } from 'vitest'
import { expectSame, fixture, readF32, readSource } from './fixtures.js'

interface Case {
  name: string
  quantType: QuantType
  blockSize: number
}

const goldens = await SafetensorsFile.open(fixture('codec.safetensors'))
const cases = JSON.parse(goldens.metadata.cases) as Case[]
afterAll(() => goldens.close())

test.each(cases)(
  '$name in $quantType blocks of $blockSize equals bitsandbytes bit for bit',
  async ({ name, quantType, blockSize }) => {
    const source = await readSource(goldens, `${name}/x`)
    const key = `${name}/${quantType}`
    const tensor = quantize4bit(source, quantType, { shape: goldens.tensors.get(`${name}/x`)?.shape, blockSize })
    expectSame(tensor.codes, await goldens.read(`${key}/codes`))
    expectSame(tensor.absmax, await readF32(goldens, `${key}/absmax`))
    const { buffer } = await goldens.read(`${key}/values`)
    if (source instanceof Float32Array) expectSame(dequantize4bit(tensor), new Float32Array(buffer))
    else expectSame(dequantize4bitToBits(tensor), new Uint16Array(buffer))
  },
)
