import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { SafetensorsFile, SafetensorsFolder, writeSafetensors } from '@mirastral/safetensors'
import { dequantize4bitToBits, fourBitEntries, fourBitWeights, quantize4bit, readFourBitTensor } from '@mirastral/quant'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { expectSame, fixture, readSource } from './fixtures.js'

const original = await SafetensorsFolder.open(fixture('tiny'))
let folder: string
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'quant-'))
})
afterAll(async () => {
  await original.close()
  await rm(folder, { recursive: true })
})

const variants = [
  { saved: 'tiny-nf4', quantType: 'nf4', doubleQuant: false },
  { saved: 'tiny-nf4-double', quantType: 'nf4', doubleQuant: true },
  { saved: 'tiny-fp4', quantType: 'fp4', doubleQuant: false },
] as const

describe.each(variants)(
  'a checkpoint saved by Transformers and bitsandbytes: $saved',
  ({ saved, quantType, doubleQuant }) => {
    test('its 4-bit weights are found and read, equal to our own quantization', async () => {
      const reader = await SafetensorsFile.open(join(fixture(saved), 'model.safetensors'))
      const weights = fourBitWeights(reader)
      expect(weights.size).toBe(14)
      for (const [name, type] of weights) {
        expect(type).toBe(quantType)
        const tensor = await readFourBitTensor(reader, name)
        const ours = quantize4bit(await readSource(original, name), quantType, {
          shape: original.tensors.get(name)?.shape,
        })
        expect({ ...tensor, codes: 0, absmax: 0 }).toEqual({ ...ours, codes: 0, absmax: 0 })
        expectSame(tensor.codes, ours.codes)
        if (!doubleQuant) expectSame(tensor.absmax, ours.absmax)
        expect(dequantize4bitToBits(tensor)).toHaveLength((tensor.shape[0] ?? 0) * (tensor.shape[1] ?? 0))
      }
      await reader.close()
    })

    test('what we write for its original weights is the same, tensor for tensor and byte for byte', async () => {
      const reader = await SafetensorsFile.open(join(fixture(saved), 'model.safetensors'))
      const entries = []
      for (const name of fourBitWeights(reader).keys()) {
        const shape = original.tensors.get(name)?.shape
        entries.push(
          ...fourBitEntries(name, quantize4bit(await readSource(original, name), quantType, { shape }), {
            doubleQuant,
          }),
        )
      }
      const path = join(folder, `${saved}.safetensors`)
      await writeSafetensors(path, entries)
      const ours = await SafetensorsFile.open(path)
      const quantized = [...reader.tensors].filter(([name]) => name.includes('proj.weight'))
      expect([...ours.tensors].map(([name, { dtype, shape }]) => ({ name, dtype, shape }))).toEqual(
        quantized.map(([name, { dtype, shape }]) => ({ name, dtype, shape })),
      )
      for (const [name] of quantized) expectSame(await ours.read(name), await reader.read(name))
      await Promise.all([reader.close(), ours.close()])
    })
  },
)
