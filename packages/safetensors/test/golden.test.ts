import { mkdir, readFile, readdir, writeFile } from 'node:fs/promises'
import { expect, test } from 'vitest'
import type { TensorEntry } from '@mirastral/safetensors'
import {
  SafetensorsError,
  SafetensorsFile,
  SafetensorsFolder,
  bf16ToF32,
  f16ToF32,
  f32ToBf16,
  f32ToF16,
  writeSafetensors,
  writeShardedSafetensors,
} from '@mirastral/safetensors'
import type { SafetensorsReader } from '@mirastral/safetensors'
import { fixture, temporaryFolder } from './helpers.js'

const folder = temporaryFolder()

async function readAll(reader: SafetensorsReader): Promise<TensorEntry[]> {
  const entries: TensorEntry[] = []
  for (const [name, { dtype, shape }] of reader.tensors)
    entries.push({ name, dtype, shape, data: await reader.read(name) })
  return entries
}

function inOrder(entries: TensorEntry[], names: string[]): TensorEntry[] {
  expect(entries.map(({ name }) => name).sort()).toEqual([...names].sort())
  return entries.sort((a, b) => names.indexOf(a.name) - names.indexOf(b.name))
}

test('a file with every dtype and with names that sort differently is written as Python writes it', async () => {
  const path = fixture('safetensors/all-dtypes.safetensors')
  const file = await SafetensorsFile.open(path)
  const entries = await readAll(file)
  expect(entries).toHaveLength(44)
  await writeSafetensors(folder.path('ours'), entries.reverse(), { metadata: file.metadata })
  expect((await readFile(folder.path('ours'))).equals(await readFile(path))).toBe(true)
  await file.close()
})

test('tensors are split into the shards of huggingface_hub, byte for byte, with the same weight map', async () => {
  const source = fixture('safetensors/shards')
  const reader = await SafetensorsFolder.open(source)
  const names = await writeShardedSafetensors(
    folder.path(),
    inOrder(await readAll(reader), ['c', 'a', 'é', 'big', 'b', 'd', 'e']),
    {
      maxShardBytes: 500,
      metadata: { format: 'pt' },
    },
  )
  expect(names).toEqual((await readdir(source)).sort())
  for (const name of names.slice(0, -1)) {
    expect((await readFile(folder.path(name))).equals(await readFile(`${source}/${name}`))).toBe(true)
  }
  const index = async (path: string): Promise<unknown> =>
    JSON.parse(await readFile(`${path}/model.safetensors.index.json`, 'utf8'))
  expect(await index(folder.path())).toEqual({
    ...((await index(source)) as object),
    metadata: { total_parameters: 1950, total_size: 1950 },
  })
  await reader.close()
})

test('the shards and the index of a model are those of Transformers, byte for byte', async () => {
  const source = fixture('quant/tiny')
  const reader = await SafetensorsFolder.open(source)
  // The index is sorted; what decides the shards is the order of the model's parameters.
  const parts = [
    ...['q', 'k', 'v', 'o'].map((p) => `self_attn.${p}_proj`),
    ...['gate', 'up', 'down'].map((p) => `mlp.${p}_proj`),
  ]
  const layers = [0, 1].flatMap((i) =>
    [...parts, 'input_layernorm', 'post_attention_layernorm'].map((part) => `model.layers.${i}.${part}`),
  )
  const order = ['model.embed_tokens', ...layers, 'model.norm', 'lm_head'].map((module) => `${module}.weight`)
  const entries = inOrder(await readAll(reader), order)
  const names = await writeShardedSafetensors(folder.path(), entries, {
    maxShardBytes: 50_000,
    metadata: { format: 'pt' },
  })
  expect(names).toHaveLength(3)
  for (const name of names) {
    expect((await readFile(folder.path(name))).equals(await readFile(`${source}/${name}`))).toBe(true)
  }
  await reader.close()
})

interface GoldenFile {
  name: string
  base64: string
  tensors: Record<string, { dtype: string; shape: number[] }> | null
}
const files = JSON.parse(await readFile(fixture('safetensors/files.json'), 'utf8')) as GoldenFile[]

test.each(files)('Python and we agree about a file: $name', async ({ base64, tensors }) => {
  const path = folder.path('file')
  await writeFile(path, Buffer.from(base64, 'base64'))
  if (tensors === null) {
    const error: unknown = await SafetensorsFile.open(path).catch((reason: unknown) => reason)
    expect(error).toBeInstanceOf(SafetensorsError)
    expect(error).toMatchObject({
      code: 'MIRASTRAL_SAFETENSORS',
      exitCode: 2,
      message: expect.stringContaining(path) as string,
    })
  } else {
    const file = await SafetensorsFile.open(path)
    const found = [...file.tensors].map(([name, { dtype, shape }]) => [name, { dtype, shape }] as const)
    expect(new Map(found)).toEqual(new Map(Object.entries(tensors)))
    for (const [name, { byteLength }] of file.tensors) expect(await file.read(name)).toHaveLength(byteLength)
    await file.close()
  }
})

test('float32 is rounded to 16 bits as PyTorch rounds it, and every 16-bit float is widened exactly', async () => {
  const goldens = await SafetensorsFile.open(fixture('safetensors/conversions.safetensors'))
  const f32 = new Float32Array((await goldens.read('f32')).buffer)
  const f16 = new Uint16Array((await goldens.read('f16')).buffer)
  const bf16 = new Uint16Array((await goldens.read('bf16')).buffer)
  const differences = (got: Uint16Array, want: Uint16Array): number[] =>
    [...got.keys()].filter((i) => got[i] !== want[i])
  expect(differences(f32ToF16(f32), f16)).toEqual([])
  expect(differences(f32ToBf16(f32), bf16)).toEqual([])
  await goldens.close()

  const all = Uint16Array.from({ length: 65536 }, (_, i) => i)
  const isNan = (bits: number, infinity: number): boolean => (bits & 0x7fff) > infinity
  expect(
    [...f32ToF16(f16ToF32(all)).keys()].filter(
      (i) => f32ToF16(f16ToF32(all.subarray(i, i + 1)))[0] !== i && !isNan(i, 0x7c00),
    ),
  ).toEqual([])
  expect(
    [...f32ToBf16(bf16ToF32(all)).keys()].filter(
      (i) => f32ToBf16(bf16ToF32(all.subarray(i, i + 1)))[0] !== i && !isNan(i, 0x7f80),
    ),
  ).toEqual([])
  expect(Array.from(f16ToF32(Uint16Array.of(0x0001, 0x8001, 0x03ff, 0x0400, 0x3c00, 0xfbff, 0xfc00)))).toEqual([
    2 ** -24,
    -(2 ** -24),
    1023 * 2 ** -24,
    2 ** -14,
    1,
    -65504,
    -Infinity,
  ])
  expect(f16ToF32(Uint16Array.of(0x7e01))[0]).toBeNaN()
  expect(Array.from(f32ToBf16(Float32Array.of(NaN)))).toEqual([0x7fc0])
})

test('a file written into a folder that is read-only or missing is an access error', async () => {
  await mkdir(folder.path('there'))
  const entries = [{ name: 'a', dtype: 'U8', shape: [1], data: Uint8Array.of(1) }] as const
  await expect(writeSafetensors(folder.path('nowhere/file'), entries)).rejects.toMatchObject({
    kind: 'access',
    exitCode: 2,
  })
  await expect(writeSafetensors(folder.path('there'), entries)).rejects.toMatchObject({ kind: 'access' })
  expect(await readdir(folder.path())).toEqual(['there'])
})
