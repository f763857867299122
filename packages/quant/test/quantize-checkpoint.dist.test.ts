import { cp, mkdtemp, readFile, readdir, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { SafetensorsFile, SafetensorsFolder, writeSafetensors } from '@mirastral/safetensors'
import { quantizeCheckpoint } from '@mirastral/quant'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { expectSame, fixture } from './fixtures.js'

let folder: string
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'quant-'))
})
afterEach(async () => {
  await rm(folder, { recursive: true })
})

const json = async (path: string): Promise<Record<string, unknown>> =>
  JSON.parse(await readFile(path, 'utf8')) as Record<string, unknown>

describe.each([
  { saved: 'tiny-nf4', quantType: 'nf4', doubleQuant: false },
  { saved: 'tiny-nf4-double', quantType: 'nf4', doubleQuant: true },
  { saved: 'tiny-fp4', quantType: 'fp4', doubleQuant: false },
] as const)('quantizing the folder that became $saved', ({ saved, quantType, doubleQuant }) => {
  test.each([1, 3])('gives the same file with %i threads as Transformers and bitsandbytes', async (threads) => {
    const out = join(folder, 'out')
    const result = await quantizeCheckpoint(fixture('tiny'), out, { quantType, doubleQuant, threads })
    expect(result).toMatchObject({ files: ['model.safetensors'], quantizedTensors: 14, keptTensors: 7 })
    expect((await readdir(out)).sort()).toEqual(['config.json', 'model.safetensors'])
    expect(
      (await readFile(join(out, 'model.safetensors'))).equals(
        await readFile(join(fixture(saved), 'model.safetensors')),
      ),
    ).toBe(true)
    expect(await json(join(out, 'config.json'))).toEqual(await json(join(fixture(saved), 'config.json')))
  })
})

test('a quantized model in shards has an index that counts parameters before quantization', async () => {
  const result = await quantizeCheckpoint(fixture('tiny'), folder, { maxShardBytes: 20_000, threads: 2 })
  expect(result.files.at(-1)).toBe('model.safetensors.index.json')
  const index = await json(join(folder, 'model.safetensors.index.json'))
  const source = await json(join(fixture('tiny'), 'model.safetensors.index.json'))
  const parameters = (source.metadata as { total_parameters: number }).total_parameters
  expect(index.metadata).toEqual({ total_parameters: parameters, total_size: result.writtenBytes })
  const sharded = await SafetensorsFolder.open(folder)
  const single = await SafetensorsFile.open(join(fixture('tiny-nf4'), 'model.safetensors'))
  expect([...sharded.tensors.keys()].sort()).toEqual([...single.tensors.keys()].sort())
  for (const name of single.tensors.keys()) expectSame(await sharded.read(name), await single.read(name))
  await Promise.all([sharded.close(), single.close()])
})

test('modules to skip stay in full precision and are named for Transformers, other files are copied', async () => {
  const model = join(folder, 'model')
  await cp(fixture('tiny'), model, { recursive: true })
  await writeFile(join(model, 'tokenizer.json'), '{}')
  const progress: number[] = []
  const out = join(folder, 'out')
  await quantizeCheckpoint(model, out, {
    skipModules: ['o_proj'],
    threads: 1,
    onProgress: (done, total) => progress.push(done / total),
  })
  const reader = await SafetensorsFolder.open(out)
  expect(reader.tensors.get('model.layers.0.self_attn.o_proj.weight')).toMatchObject({ dtype: 'BF16', shape: [48, 48] })
  expect(reader.tensors.get('model.layers.0.self_attn.q_proj.weight')).toMatchObject({ dtype: 'U8' })
  expect((await json(join(out, 'config.json'))).quantization_config).toMatchObject({
    llm_int8_skip_modules: ['lm_head', 'o_proj'],
  })
  expect((await readdir(out)).sort()).toEqual(['config.json', 'model.safetensors', 'tokenizer.json'])
  expect(progress).toHaveLength(21)
  expect(progress.at(-1)).toBe(1)
  await reader.close()
})

test('a weight that is not finite stops the work with its name, and no model is left', async () => {
  const model = join(folder, 'model')
  await cp(fixture('tiny'), model, { recursive: true })
  await rm(join(model, 'model.safetensors.index.json'))
  const data = new Uint16Array(64 * 64).fill(0x3f80)
  data[77] = 0xffc0
  const name = 'model.layers.0.self_attn.q_proj.weight'
  await writeSafetensors(join(model, 'model.safetensors'), [{ name, dtype: 'BF16', shape: [64, 64], data }])
  const out = join(folder, 'out')
  await expect(quantizeCheckpoint(model, out, { threads: 2 })).rejects.toMatchObject({
    kind: 'non-finite',
    message: `quantize ${name}: weights must be finite, got NaN at element 77; the checkpoint is damaged`,
  })
  expect(await readdir(out)).toEqual([])
})

test.each([
  ['a model that is quantized already', 'tiny-nf4', /must be in full precision, got/],
  ['a folder that is not there', 'nowhere', /nowhere: ENOENT/],
  ['a folder without weights', '.', /must hold model.safetensors or model.safetensors.index.json, got neither/],
])('%s is refused', async (_what, source, message) => {
  await expect(quantizeCheckpoint(fixture(source), join(folder, 'out'))).rejects.toThrow(message)
  expect(await readdir(folder)).toEqual([])
})

test('the folder of the model itself is refused as the output', async () => {
  const model = join(folder, 'model')
  await cp(fixture('tiny'), model, { recursive: true })
  await expect(quantizeCheckpoint(model, join(model, '.'))).rejects.toMatchObject({ kind: 'usage', exitCode: 2 })
  expect((await readdir(model)).sort()).toEqual((await readdir(fixture('tiny'))).sort())
})

test('an output folder that cannot be made, and a side file that cannot be read, are typed errors', async () => {
  await writeFile(join(folder, 'file'), '')
  await expect(quantizeCheckpoint(fixture('tiny'), join(folder, 'file'))).rejects.toMatchObject({
    kind: 'usage',
    exitCode: 2,
  })
  const model = join(folder, 'model')
  await cp(fixture('tiny'), model, { recursive: true })
  await symlink('nowhere', join(model, 'tokenizer.json'))
  await expect(quantizeCheckpoint(model, join(folder, 'out'), { threads: 1 })).rejects.toMatchObject({
    kind: 'io',
    exitCode: 1,
  })
  expect(await readdir(join(folder, 'out'))).not.toContain('config.json')
})
