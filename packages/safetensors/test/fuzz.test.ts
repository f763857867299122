import { readFile, writeFile } from 'node:fs/promises'
import fc from 'fast-check'
import { expect, test } from 'vitest'
import type { Dtype, TensorEntry } from '@mirastral/safetensors'
import {
  DTYPES,
  SafetensorsError,
  SafetensorsFile,
  dtypeBits,
  tensorBytes,
  writeSafetensors,
} from '@mirastral/safetensors'
import { fileBytes, temporaryFolder } from './helpers.js'

const folder = temporaryFolder()

const shapeOf = (dtype: Dtype): fc.Arbitrary<number[]> =>
  fc.array(fc.nat(5), { maxLength: 4 }).map((shape) => (dtypeBits(dtype) < 8 ? [...shape, 8] : shape))

const entry: fc.Arbitrary<TensorEntry> = fc
  .tuple(fc.string({ unit: 'grapheme' }), fc.constantFrom(...DTYPES))
  .chain(([name, dtype]) => shapeOf(dtype).map((shape) => ({ name, dtype, shape })))
  .chain((header) => {
    const length = tensorBytes(header.dtype, header.shape) ?? 0
    return fc.uint8Array({ minLength: length, maxLength: length }).map((data) => ({ ...header, data }))
  })

const entries = fc.uniqueArray(entry, { selector: ({ name }) => name, maxLength: 8 })
const metadata = fc.dictionary(fc.string({ unit: 'grapheme' }), fc.string({ unit: 'grapheme' }), { maxKeys: 3 })

test('what is written is read back: names, dtypes, shapes, bytes, metadata', async () => {
  await fc.assert(
    fc.asyncProperty(entries, metadata, async (written, meta) => {
      const path = folder.path('file')
      await writeSafetensors(path, written, { metadata: meta })
      const file = await SafetensorsFile.open(path)
      try {
        expect(file.tensors.size).toBe(written.length)
        expect({ ...file.metadata }).toEqual({ ...meta })
        for (const { name, dtype, shape, data } of written) {
          expect(file.tensors.get(name)).toMatchObject({ dtype, shape })
          expect(await file.read(name)).toEqual(data)
        }
      } finally {
        await file.close()
      }
    }),
    { numRuns: 150 },
  )
})

/** Opens and reads everything; anything but success or a SafetensorsError is a fault. */
async function survives(path: string, content: Uint8Array): Promise<'read' | 'refused'> {
  await writeFile(path, content)
  let file: SafetensorsFile
  try {
    file = await SafetensorsFile.open(path)
  } catch (error) {
    expect(error).toBeInstanceOf(SafetensorsError)
    return 'refused'
  }
  for (const [name, info] of file.tensors) {
    expect(await file.read(name)).toHaveLength(info.byteLength)
    expect(info.byteOffset + info.byteLength).toBeLessThanOrEqual(content.length)
  }
  await file.close()
  return 'read'
}

async function sampleFile(): Promise<Buffer> {
  const path = folder.path('sample')
  await writeSafetensors(
    path,
    [
      { name: 'weight', dtype: 'F32', shape: [2, 3], data: new Float32Array(6) },
      { name: 'bias', dtype: 'BF16', shape: [3], data: new Uint16Array(3) },
    ],
    { metadata: { format: 'pt' } },
  )
  return readFile(path)
}

test('a file cut off at any byte, or with a byte added, is refused', async () => {
  const whole = await sampleFile()
  for (let length = 0; length < whole.length; length++) {
    expect(await survives(folder.path('cut'), whole.subarray(0, length))).toBe('refused')
  }
  expect(await survives(folder.path('cut'), Buffer.concat([whole, Buffer.alloc(1)]))).toBe('refused')
})

test('a file with any changed bytes is read within its bounds or refused with a typed error', async () => {
  const whole = await sampleFile()
  const change = fc.record({ at: fc.nat(whole.length - 1), value: fc.nat(255) })
  await fc.assert(
    fc.asyncProperty(fc.array(change, { minLength: 1, maxLength: 4 }), async (changes) => {
      const content = Buffer.from(whole)
      for (const { at, value } of changes) content[at] = value
      await survives(folder.path('changed'), content)
    }),
    { numRuns: 500 },
  )
})

test('any JSON as a header is read within its bounds or refused with a typed error', async () => {
  const size = fc.oneof(fc.nat(12), fc.constantFrom(-1, 1.5, 2 ** 53, 2 ** 64, 1e308))
  const tensor = fc.record(
    {
      dtype: fc.oneof(fc.constantFrom(...DTYPES), fc.string()),
      shape: fc.oneof(fc.array(size, { maxLength: 3 }), fc.jsonValue()),
      data_offsets: fc.oneof(fc.tuple(size, size), fc.jsonValue()),
    },
    { requiredKeys: [] },
  )
  const header = fc.oneof(fc.jsonValue(), fc.dictionary(fc.string(), fc.oneof(tensor, fc.jsonValue()), { maxKeys: 4 }))
  await fc.assert(
    fc.asyncProperty(header, fc.nat(16), async (json, dataBytes) => {
      await survives(folder.path('json'), fileBytes(JSON.stringify(json), new Uint8Array(dataBytes)))
    }),
    { numRuns: 500 },
  )
})
