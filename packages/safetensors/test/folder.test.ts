import { readdir, rm, writeFile } from 'node:fs/promises'
import { expect, test } from 'vitest'
import type { TensorEntry } from '@mirastral/safetensors'
import { SafetensorsFolder, planShards, writeSafetensors, writeShardedSafetensors } from '@mirastral/safetensors'
import { temporaryFolder } from './helpers.js'

const folder = temporaryFolder()
const indexName = 'model.safetensors.index.json'

const entry = (name: string, bytes: number): TensorEntry => ({
  name,
  dtype: 'U8',
  shape: [bytes],
  data: new Uint8Array(bytes).fill(bytes),
})

const writeIndex = (weightMap: unknown): Promise<void> =>
  writeFile(folder.path(indexName), JSON.stringify({ weight_map: weightMap }))

test('a tensor larger than a shard gets a file of its own, in the order of huggingface_hub', () => {
  const plan = planShards([entry('a', 3), entry('big', 9), entry('b', 2), entry('c', 1)], { maxShardBytes: 5 })
  expect(plan.files.map(({ fileName, entries }) => [fileName, entries.map(({ name }) => name)])).toEqual([
    ['model-00001-of-00003.safetensors', ['big']],
    ['model-00002-of-00003.safetensors', ['a', 'b']],
    ['model-00003-of-00003.safetensors', ['c']],
  ])
})

test('writing again with other shards, or one, removes the files of before and no others', async () => {
  await writeFile(folder.path('model.txt'), 'mine')
  await writeFile(folder.path('model-of-mine.safetensors'), 'mine')
  const others = ['model-of-mine.safetensors', 'model.txt']
  await writeShardedSafetensors(folder.path(), [entry('a', 3), entry('b', 3), entry('c', 3)], { maxShardBytes: 3 })
  expect((await readdir(folder.path())).filter((name) => name.includes('-of-00003'))).toHaveLength(3)
  await writeShardedSafetensors(folder.path(), [entry('a', 3), entry('b', 3)], { maxShardBytes: 3 })
  const two = ['model-00001-of-00002.safetensors', 'model-00002-of-00002.safetensors', indexName]
  expect((await readdir(folder.path())).sort()).toEqual([...two, ...others].sort())
  await writeShardedSafetensors(folder.path(), [entry('a', 3)])
  expect((await readdir(folder.path())).sort()).toEqual(['model.safetensors', ...others].sort())
})

test('no tensors at all are one empty file', async () => {
  expect(await writeShardedSafetensors(folder.path(), [])).toEqual(['model.safetensors'])
  const reader = await SafetensorsFolder.open(folder.path())
  expect(reader.tensors.size).toBe(0)
  await reader.close()
})

test('shards are read by name, in ranges and into memory of the caller, and located', async () => {
  await writeShardedSafetensors(folder.path(), [entry('a', 3), entry('b', 5)], {
    maxShardBytes: 5,
    baseName: 'adapter_model',
    metadata: { format: 'pt' },
  })
  const reader = await SafetensorsFolder.open(folder.path(), { baseName: 'adapter_model' })
  expect({ ...reader.metadata }).toEqual({ format: 'pt' })
  expect(reader.pathOf('b')).toBe(folder.path('adapter_model-00002-of-00002.safetensors'))
  const target = new Uint8Array(2)
  await reader.readInto('b', target, 3)
  expect(target).toEqual(Uint8Array.of(5, 5))
  expect(await Promise.all([reader.read('a'), reader.read('a'), reader.readRange('b', 1, 2)])).toEqual([
    Uint8Array.of(3, 3, 3),
    Uint8Array.of(3, 3, 3),
    Uint8Array.of(5),
  ])
  await expect(reader.read('c')).rejects.toMatchObject({ kind: 'unknown-tensor' })
  expect(() => reader.pathOf('c')).toThrow('there is no tensor "c"')
  await reader.close()
})

test('a single file is preferred to an index, as Transformers does', async () => {
  await writeShardedSafetensors(folder.path(), [entry('a', 3), entry('b', 3)], { maxShardBytes: 3 })
  await writeSafetensors(folder.path('model.safetensors'), [entry('single', 1)])
  const reader = await SafetensorsFolder.open(folder.path())
  expect([...reader.tensors.keys()]).toEqual(['single'])
  await reader.close()
})

test('every missing shard is named', async () => {
  await writeShardedSafetensors(folder.path(), [entry('a', 3), entry('b', 3), entry('c', 3)], { maxShardBytes: 3 })
  await rm(folder.path('model-00001-of-00003.safetensors'))
  await rm(folder.path('model-00003-of-00003.safetensors'))
  await expect(SafetensorsFolder.open(folder.path())).rejects.toMatchObject({
    kind: 'access',
    message: `${folder.path()}: every shard of ${indexName} must be there, missing: model-00001-of-00003.safetensors, model-00003-of-00003.safetensors`,
  })
})

test('tensors that the index promises and no shard holds are named', async () => {
  await writeSafetensors(folder.path('x.safetensors'), [entry('a', 1)])
  await writeIndex({ a: 'x.safetensors', b: 'x.safetensors', c: 'x.safetensors' })
  await expect(SafetensorsFolder.open(folder.path())).rejects.toMatchObject({
    kind: 'malformed',
    message: expect.stringContaining('not found: "b" in x.safetensors, "c" in x.safetensors') as string,
  })
})

test.each([
  ['../x.safetensors'],
  ['a/x.safetensors'],
  ['/x.safetensors'],
  ['a\\x.safetensors'],
  ['x.bin'],
  ['.safetensors\0'],
  [5],
  [null],
])('an index that points to %j is refused', async (fileName) => {
  await writeIndex({ a: fileName })
  await expect(SafetensorsFolder.open(folder.path())).rejects.toMatchObject({ kind: 'malformed', exitCode: 2 })
})

test.each([['{'], ['null'], ['{}'], ['[]'], ['{"weight_map":[]}'], ['{"weight_map":"x"}'], ['']])(
  'the index %j is refused',
  async (text) => {
    await writeFile(folder.path(indexName), text)
    await expect(SafetensorsFolder.open(folder.path())).rejects.toMatchObject({ kind: 'malformed', exitCode: 2 })
  },
)

test('an index beyond the limit, an empty folder and a missing folder have their own errors', async () => {
  await writeIndex({ a: 'x.safetensors' })
  await expect(SafetensorsFolder.open(folder.path(), { maxHeaderBytes: 10 })).rejects.toMatchObject({ kind: 'limit' })
  await rm(folder.path(indexName))
  await expect(SafetensorsFolder.open(folder.path())).rejects.toThrow(
    'must hold model.safetensors or model.safetensors.index.json, got neither',
  )
  await expect(SafetensorsFolder.open(folder.path('nowhere'))).rejects.toMatchObject({ kind: 'access' })
})
