import { SafetensorsFile } from '@mirastral/safetensors'
import type { QuantType } from '@mirastral/quant'
import { dequantize4bit, dequantize4bitToBits, quantize4bit } from '@mirastral/quant'
import { afterAll, expect, test } from 'vitest'
import { bytes, fixture, readF32, readSource } from './fixtures.js'

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
    expect(bytes(tensor.codes)).toEqual(Buffer.from(await goldens.read(`${key}/codes`)))
    expect(bytes(tensor.absmax)).toEqual(bytes(await readF32(goldens, `${key}/absmax`)))
    const values = source instanceof Float32Array ? dequantize4bit(tensor) : dequantize4bitToBits(tensor)
    expect(bytes(values)).toEqual(Buffer.from(await goldens.read(`${key}/values`)))
  },
)
