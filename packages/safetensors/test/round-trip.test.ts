import { mkdtemp, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { SafetensorsFile, SafetensorsFolder, writeSafetensors, writeShardedSafetensors } from '@mirastral/safetensors'

let folder: string
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'safetensors-'))
})
afterEach(async () => {
  await rm(folder, { recursive: true })
})

test('what is written is read back, whole and in ranges', async () => {
  const path = join(folder, 'a.safetensors')
  await writeSafetensors(
    path,
    [
      { name: 'w', dtype: 'F32', shape: [2, 2], data: Float32Array.of(1, 2, 3, 4) },
      {
        name: 'b',
        dtype: 'U8',
        shape: [3],
        data: function* () {
          yield Uint8Array.of(7)
          yield Uint8Array.of(8, 9)
        },
      },
    ],
    { metadata: { format: 'pt' } },
  )
  const file = await SafetensorsFile.open(path)
  expect(file.metadata).toEqual({ format: 'pt' })
  expect([...file.tensors.keys()]).toEqual(['w', 'b'])
  expect(file.tensors.get('w')).toMatchObject({ dtype: 'F32', shape: [2, 2], byteLength: 16 })
  expect(new Float32Array((await file.read('w')).buffer)).toEqual(Float32Array.of(1, 2, 3, 4))
  expect(await file.readRange('b', 1, 3)).toEqual(Uint8Array.of(8, 9))
  await file.close()
  expect(await readdir(folder)).toEqual(['a.safetensors'])
})

test('a sharded folder reads like one file', async () => {
  const entries = ['x', 'y', 'z'].map(
    (name, i) => ({ name, dtype: 'F32', shape: [1], data: Float32Array.of(i) }) as const,
  )
  const names = await writeShardedSafetensors(folder, entries, { maxShardBytes: 8 })
  expect(names).toEqual([
    'model-00001-of-00002.safetensors',
    'model-00002-of-00002.safetensors',
    'model.safetensors.index.json',
  ])
  const model = await SafetensorsFolder.open(folder)
  expect([...model.tensors.keys()]).toEqual(['x', 'y', 'z'])
  for (const [i, { name }] of entries.entries()) {
    expect(new Float32Array((await model.read(name)).buffer)).toEqual(Float32Array.of(i))
  }
  await model.close()
})
