import { truncate, writeFile } from 'node:fs/promises'
import { expect, test } from 'vitest'
import {
  MAX_HEADER_BYTES,
  SafetensorsError,
  SafetensorsFile,
  readFloat32,
  toFloat32,
  writeSafetensors,
} from '@mirastral/safetensors'
import { fileBytes, temporaryFolder } from './helpers.js'

const folder = temporaryFolder()

async function sample(): Promise<string> {
  const path = folder.path('sample')
  await writeSafetensors(path, [
    { name: 'w', dtype: 'BF16', shape: [2, 2], data: Uint16Array.of(0x3f80, 0x4000, 0xbf80, 0) },
    { name: 'i', dtype: 'I32', shape: [1], data: Int32Array.of(7) },
  ])
  return path
}

test('a duplicate key is refused, which the specification demands and the reference reader does not check', async () => {
  const tensor = '{"dtype":"U8","shape":[1],"data_offsets":[0,1]}'
  const path = folder.path('file')
  await writeFile(path, fileBytes(`{"a":${tensor},"a":${tensor}}`, Uint8Array.of(1)))
  await expect(SafetensorsFile.open(path)).rejects.toThrow('the header must not repeat a key')
  await writeFile(
    path,
    fileBytes(`{"a":{"dtype":"U8","shape":[1],"shape":[1],"data_offsets":[0,1]}}`, Uint8Array.of(1)),
  )
  await expect(SafetensorsFile.open(path)).rejects.toThrow('the header must not repeat a key')
  await writeFile(path, fileBytes(`{"a:\\"b\\\\":${tensor}}`, Uint8Array.of(1)))
  const file = await SafetensorsFile.open(path)
  expect([...file.tensors.keys()]).toEqual(['a:"b\\'])
  await file.close()
})

test('a header length beyond the limit or the file is refused before the header is read', async () => {
  const path = folder.path('file')
  const length = Buffer.alloc(8)
  length.writeBigUInt64LE(BigInt(MAX_HEADER_BYTES + 1))
  await writeFile(path, length)
  await expect(SafetensorsFile.open(path)).rejects.toMatchObject({
    kind: 'limit',
    message: `${path}: the header must have at most 100000000 bytes, got 100000001; the file is damaged or not a safetensors file`,
  })
  length.writeBigUInt64LE(BigInt(MAX_HEADER_BYTES))
  await writeFile(path, length)
  await expect(SafetensorsFile.open(path)).rejects.toMatchObject({
    kind: 'malformed',
    message: expect.stringMatching(/truncated/) as string,
  })
})

test('limits may be lowered, not raised', async () => {
  const path = await sample()
  await expect(SafetensorsFile.open(path, { maxHeaderBytes: 16 })).rejects.toMatchObject({ kind: 'limit' })
  const file = await SafetensorsFile.open(path, { maxTensorBytes: 7, maxHeaderBytes: 1e12 })
  await expect(file.read('w')).rejects.toMatchObject({
    kind: 'limit',
    message: expect.stringContaining('tensor "w": at most 7 bytes') as string,
  })
  expect(await file.readRange('w', 1, 8)).toHaveLength(7)
  await file.close()
})

test.each([
  [-1, 2],
  [3, 2],
  [0, 9],
  [0.5, 2],
  [NaN, 2],
])('the range %d to %d of an eight-byte tensor is refused', async (start, end) => {
  const file = await SafetensorsFile.open(await sample())
  await expect(file.readRange('w', start, end)).rejects.toMatchObject({ kind: 'usage' })
  await file.close()
})

test('an unknown tensor, a folder and a missing file have their own errors', async () => {
  const path = await sample()
  const file = await SafetensorsFile.open(path)
  await expect(file.read('nope')).rejects.toMatchObject({
    kind: 'unknown-tensor',
    message: `${path}: there is no tensor "nope"`,
  })
  await file.close()
  await expect(SafetensorsFile.open(folder.path())).rejects.toMatchObject({ kind: 'access', exitCode: 2 })
  await expect(SafetensorsFile.open(folder.path('nope'))).rejects.toMatchObject({ kind: 'access', exitCode: 2 })
})

test('a file that is shortened while it is open is reported as damaged, not read as zeros', async () => {
  const path = await sample()
  const file = await SafetensorsFile.open(path)
  await truncate(path, 100)
  await expect(file.read('w')).rejects.toBeInstanceOf(SafetensorsError)
  await file.close()
})

test('floating-point tensors are read as float32, others are refused', async () => {
  const file = await SafetensorsFile.open(await sample())
  expect(await readFloat32(file, 'w')).toEqual(Float32Array.of(1, 2, -1, 0))
  await expect(readFloat32(file, 'i')).rejects.toMatchObject({ kind: 'usage' })
  await file.close()
  expect(toFloat32('F64', new Uint8Array(Float64Array.of(0.1).buffer))).toEqual(Float32Array.of(0.1))
  const unaligned = new Uint8Array(9)
  unaligned.set(new Uint8Array(Float32Array.of(1.5, 2.5).buffer), 1)
  expect(toFloat32('F32', Buffer.from(unaligned.buffer).subarray(1))).toEqual(Float32Array.of(1.5, 2.5))
})
