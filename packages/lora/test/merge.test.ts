import { copyFile, mkdir, readFile, readdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { beforeAll, describe, expect, it } from 'vitest'
import {
  initializeAdapter,
  loadAdapter,
  mergeAdapter,
  modulesOfCheckpoint,
  parseLoraConfig,
  planLora,
  saveAdapter,
} from '@mirastral/lora'
import type { LoraOptions, MergeOptions } from '@mirastral/lora'
import { dequantizeNf4, fourBitWeights, quantizeCheckpoint, quantizeNf4 } from '@mirastral/quant'
import { bytesOf, f32ToBf16, f32ToF16, readFloat32, writeShardedSafetensors } from '@mirastral/safetensors'
import type { SafetensorsFile, SafetensorsFolder } from '@mirastral/safetensors'
import { caught, fixtures, openFile, openFolder, temporaryFolder } from './fixtures.js'
import { expectClose } from './close.js'

type Stored = 'F32' | 'F16' | 'BF16'
const llama = join(fixtures, 'llama')
const names = { F32: 'float32', F16: 'float16', BF16: 'bfloat16' } as const
let golden: SafetensorsFile

beforeAll(async () => {
  golden = await openFile(join(llama, 'merged.safetensors'))
})

const encode = {
  F32: (x: Float32Array) => x,
  F16: (x: Float32Array) => f32ToF16(x),
  BF16: (x: Float32Array) => f32ToBf16(x),
}

/** The tiny model in another element type, in shards, with the files that go with a model. */
async function baseFolder(dtype: Stored, change: { tied?: boolean } = {}): Promise<string> {
  const folder = await temporaryFolder()
  const source = await openFolder(llama)
  const entries = []
  for (const [name, { shape }] of source.tensors) {
    if (change.tied === true && name === 'lm_head.weight') continue
    entries.push({ name, dtype, shape, data: encode[dtype](await readFloat32(source, name)) })
  }
  await writeShardedSafetensors(folder, entries, { maxShardBytes: 20_000, metadata: { format: 'pt' } })
  const config = JSON.parse(await readFile(join(llama, 'config.json'), 'utf8')) as Record<string, unknown>
  const tied = { tie_word_embeddings: change.tied === true, dtype: names[dtype] }
  await writeFile(join(folder, 'config.json'), JSON.stringify({ ...config, ...tied }))
  await writeFile(join(folder, 'tokenizer.json'), '{"a tokenizer": true}')
  await writeFile(join(folder, 'optimizer.pt'), 'not for the merged model')
  return folder
}

async function merged(base: string, adapter: string, options: MergeOptions = {}): Promise<SafetensorsFolder> {
  const out = join(await temporaryFolder(), 'merged')
  await mergeAdapter(base, adapter, out, options)
  return openFolder(out)
}

async function adapterOf(base: string, options: LoraOptions, seed = 1): Promise<string> {
  const reader = await openFolder(base)
  const plan = planLora(parseLoraConfig(options), modulesOfCheckpoint(reader.tensors))
  const adapter = await initializeAdapter(plan, {
    seed,
    readParameter: (name) => readFloat32(reader, reader.tensors.has(name) ? name : 'model.embed_tokens.weight'),
  })
  const folder = await temporaryFolder()
  await saveAdapter(folder, adapter)
  return folder
}

const variants = [
  ['attention', 'F32', 'once'],
  ['attention', 'BF16', 'once'],
  ['attention', 'BF16', 'twice'],
  ['attention', 'F16', 'twice'],
  ['dora', 'BF16', 'once'],
  ['modules', 'F32', 'once'],
] as const

describe('a merged model', () => {
  it.each(variants)('of the adapter "%s" in %s, rounded %s, is that of PEFT', async (name, dtype, rounding) => {
    const base = await baseFolder(dtype)
    const before = await openFolder(base)
    const after = await merged(base, join(llama, name), { rounding })
    const prefix = `${name}.${names[dtype]}.${rounding}.`
    const expected = [...golden.tensors.keys()].filter((key) => key.startsWith(prefix))
    const different: string[] = []
    let rounded = 0
    let elements = 0
    for (const [key, info] of before.tensors) {
      expect(after.tensors.get(key)).toMatchObject({ dtype, shape: info.shape })
      const bytes = await after.read(key)
      if (Buffer.compare(bytes, await before.read(key)) === 0) continue
      different.push(prefix + key)
      const [actual, reference] = [await readFloat32(after, key), await readFloat32(golden, prefix + key)]
      // The order of a sum may decide a tie in the last bit of a 16-bit value: rarely, and by that bit only.
      expectClose(key, actual, reference, dtype === 'F32' ? 1e-6 : 2 ** -7)
      if (dtype !== 'F32') rounded += actual.filter((value, i) => value !== reference[i]).length
      elements += actual.length
    }
    expect(different.sort()).toEqual(expected.sort())
    expect(rounded / elements).toBeLessThan(1e-3)
  })

  it('rounded once and rounded twice are not the same', async () => {
    const base = await baseFolder('BF16')
    const key = 'model.layers.0.self_attn.q_proj.weight'
    const [once, twice] = [
      await merged(base, join(llama, 'attention')),
      await merged(base, join(llama, 'attention'), { rounding: 'twice' }),
    ]
    expect(bytesOf(await once.read(key))).not.toEqual(bytesOf(await twice.read(key)))
  })

  it('has the files that go with a model and says what it was made from', async () => {
    const base = await baseFolder('BF16')
    const out = join(await temporaryFolder(), 'merged')
    const seen: string[] = []
    const report = await mergeAdapter(base, join(llama, 'attention'), out, {
      maxShardBytes: 30_000,
      onTensor: (name, index, count) => seen.push(`${index} of ${count} ${name}`),
    })
    const present = await readdir(out)
    expect(present.sort()).toEqual([...report.files].sort())
    expect(present).toEqual(
      expect.arrayContaining(['config.json', 'tokenizer.json', 'README.md', 'model.safetensors.index.json']),
    )
    expect(present).not.toContain('optimizer.pt')
    expect(await readFile(join(out, 'tokenizer.json'))).toEqual(await readFile(join(base, 'tokenizer.json')))
    expect(report).toMatchObject({ mergedLayers: 8, replacedParameters: 0, baseWeights: 'full', warnings: [] })
    expect(seen[0]).toMatch(/^0 of 21 /)
    expect(seen).toHaveLength(21)
    const { metadata } = await openFolder(out)
    expect(metadata).toEqual({
      format: 'pt',
      'mirastral.base_model': 'owner/llama',
      'mirastral.base_weights': 'full',
      'mirastral.rounding': 'once',
      'mirastral.output': 'dense',
    })
    const readme = await readFile(join(out, 'README.md'), 'utf8')
    expect(readme).toContain('base_model: "owner/llama"')
    expect(readme).toContain('the weights of the base model as they are published (full precision)')
  })

  it('of the 4-bit weights holds what was trained, in every linear layer', async () => {
    const base = await baseFolder('F32')
    const after = await merged(base, join(llama, 'attention-nf4'), {
      baseWeights: 'nf4',
      nf4: { blockSize: 32, skipModules: ['model.layers.0.mlp.up_proj'] },
    })
    const reader = await openFolder(base)
    const { adapter } = await loadAdapter(join(llama, 'attention-nf4'), modulesOfCheckpoint(reader.tensors))
    for (const [key, { shape }] of reader.tensors) {
      const weight = await readFloat32(reader, key)
      const linear = key.includes('_proj') && key !== 'model.layers.0.mlp.up_proj.weight'
      const base4 = linear ? dequantizeNf4(quantizeNf4(weight, { shape, blockSize: 32 })) : weight
      const layer = adapter.plan.layers.find((l) => `${l.module}.weight` === key)
      const a = adapter.tensors.get(`base_model.model.${layer?.module}.lora_A.weight`)?.data ?? new Float32Array()
      const b = adapter.tensors.get(`base_model.model.${layer?.module}.lora_B.weight`)?.data ?? new Float32Array()
      const width = shape[shape.length - 1]
      const expected = base4.map((value, i) => {
        let sum = 0
        for (let k = 0; k < (layer?.rank ?? 0); k++)
          sum += b[Math.floor(i / width) * 4 + k] * a[k * width + (i % width)]
        return value + sum * (layer?.scaling ?? 0)
      })
      expectClose(key, await readFloat32(after, key), expected, 1e-6)
    }
    expect(after.metadata['mirastral.base_weights']).toBe('nf4, block size 32')
  })

  it.each([false, true])(
    'of a folder stored in 4 bits is that of the same weights rounded here (double: %s)',
    async (doubleQuant) => {
      const base = await baseFolder('BF16')
      const four = join(await temporaryFolder(), 'four')
      await quantizeCheckpoint(base, four, { doubleQuant, maxShardBytes: 15_000 })
      const stored = await merged(four, join(llama, 'attention-nf4'))
      const rounded = await merged(base, join(llama, 'attention-nf4'), { baseWeights: 'nf4' })
      expect([...stored.tensors.keys()].sort()).toEqual([...rounded.tensors.keys()].sort())
      for (const [key, { dtype, shape }] of rounded.tensors) {
        expect(stored.tensors.get(key)).toMatchObject({ dtype, shape })
        const [a, b] = [await readFloat32(stored, key), await readFloat32(rounded, key)]
        // Double quantization changes the scales by up to a part in a hundred.
        if (doubleQuant) expectClose(key, a, b, 0.02)
        else expect(a, key).toEqual(b)
      }
      expect(stored.metadata['mirastral.base_weights']).toBe('4-bit, as stored')
      const config = JSON.parse(await readFile(join(stored.path, 'config.json'), 'utf8')) as Record<string, unknown>
      expect(config).not.toHaveProperty('quantization_config')
    },
  )

  it('can be rounded to 4 bits again when that is agreed to, and says so', async () => {
    const base = await baseFolder('BF16')
    const after = await merged(base, join(llama, 'attention'), { output: 'nf4', allowLossy: true })
    expect(fourBitWeights(after).size).toBe(14)
    const readme = await readFile(join(after.path, 'README.md'), 'utf8')
    expect(readme).toContain('rounded to 4 bits again')
    const config = JSON.parse(await readFile(join(after.path, 'config.json'), 'utf8')) as Record<string, unknown>
    expect(config).toHaveProperty('quantization_config.bnb_4bit_quant_type', 'nf4')
  })

  it('gets both embeddings when one of tied ones was trained', async () => {
    const base = await baseFolder('F32', { tied: true })
    const adapter = await adapterOf(base, { targetModules: ['q_proj'], modulesToSave: ['lm_head'] })
    const out = join(await temporaryFolder(), 'merged')
    const report = await mergeAdapter(base, adapter, out)
    expect(report.replacedParameters).toBe(1)
    const reader = await openFolder(out)
    expect(reader.tensors.get('lm_head.weight')?.shape).toEqual(reader.tensors.get('model.embed_tokens.weight')?.shape)
    const config = JSON.parse(await readFile(join(out, 'config.json'), 'utf8')) as Record<string, unknown>
    expect(config.tie_word_embeddings).toBe(false)
  })

  it('can be stored in another element type', async () => {
    const base = await baseFolder('F32')
    const after = await merged(base, join(llama, 'attention'), { dtype: 'BF16' })
    expect([...after.tensors.values()].every((t) => t.dtype === 'BF16')).toBe(true)
    const config = JSON.parse(await readFile(join(after.path, 'config.json'), 'utf8')) as Record<string, unknown>
    expect(config.dtype).toBe('bfloat16')
  })
})

describe('merging', () => {
  it('refuses a folder with something in it, and leaves it alone', async () => {
    const out = await temporaryFolder()
    await writeFile(join(out, 'mine.txt'), 'mine')
    const error = await caught(async () => mergeAdapter(await baseFolder('F32'), join(llama, 'attention'), out))
    expect(error).toMatchObject({ code: 'MIRASTRAL_LORA_MERGE', exitCode: 2 })
    expect(error.message).toBe(`${out}: must be a new or empty folder, got one with 1 entry`)
    expect(await readdir(out)).toEqual(['mine.txt'])
  })

  it('into full precision refuses a folder that holds 4-bit weights', async () => {
    const four = join(await temporaryFolder(), 'four')
    await quantizeCheckpoint(await baseFolder('BF16'), four)
    const out = join(await temporaryFolder(), 'out')
    const error = await caught(() => mergeAdapter(four, join(llama, 'attention'), out, { baseWeights: 'full' }))
    expect(error.message).toBe(
      `${four}: holds 4-bit weights; for baseWeights "full" give the folder of the model in full precision`,
    )
  })

  it('refuses to round to 4 bits again unless that is agreed to', async () => {
    const base = await baseFolder('F32')
    const out = join(await temporaryFolder(), 'out')
    const error = await caught(() => mergeAdapter(base, join(llama, 'attention'), out, { output: 'nf4' }))
    expect(error).toMatchObject({ code: 'MIRASTRAL_LORA_MERGE', exitCode: 2 })
    expect(error.message).toContain('loses part of what was trained')
  })

  it('refuses an adapter that is broken, and leaves nothing behind', async () => {
    const base = await baseFolder('F32')
    const broken = await temporaryFolder()
    const reader = await openFolder(base)
    const { adapter } = await loadAdapter(join(llama, 'attention'), modulesOfCheckpoint(reader.tensors))
    adapter.tensors.get('base_model.model.model.layers.1.self_attn.v_proj.lora_B.weight')?.data.fill(Infinity)
    await saveAdapter(broken, adapter)
    const parent = await temporaryFolder()
    const error = await caught(() => mergeAdapter(base, broken, join(parent, 'out')))
    expect(error.message).toMatch(/^model.layers.1.self_attn.v_proj.weight: has values that are not finite/)
    expect(await readdir(parent)).toEqual([])
  })

  it('refuses a bias of B where the base has none', async () => {
    const base = await baseFolder('F32')
    const adapter = await adapterOf(base, { targetModules: ['q_proj'], loraBias: true })
    const out = join(await temporaryFolder(), 'out')
    const error = await caught(() => mergeAdapter(base, adapter, out))
    expect(error.message).toContain(
      'model.layers.0.self_attn.q_proj.bias: is not in the base model; an adapter with lora_bias',
    )
  })

  it('adds a bias of B to the bias of the base', async () => {
    const base = await temporaryFolder()
    const [weight, bias] = [new Float32Array(12).fill(1), Float32Array.of(1, 2, 3)]
    const entries = [
      { name: 'a.q_proj.weight', dtype: 'F32', shape: [3, 4], data: weight },
      { name: 'a.q_proj.bias', dtype: 'F32', shape: [3], data: bias },
    ] as const
    await writeShardedSafetensors(base, entries, {})
    await copyFile(join(llama, 'config.json'), join(base, 'config.json'))
    const options = { r: 2, loraAlpha: 4, loraBias: true, initLoraWeights: false, targetModules: ['q_proj'] }
    const adapter = await adapterOf(base, options)
    const after = await merged(base, adapter)
    const file = await openFile(join(adapter, 'adapter_model.safetensors'))
    const loraBias = await readFloat32(file, 'base_model.model.a.q_proj.lora_B.bias')
    expectClose(
      'bias',
      await readFloat32(after, 'a.q_proj.bias'),
      bias.map((v, i) => v + 2 * loraBias[i]),
      1e-6,
    )
  })

  it('names a base without a configuration', async () => {
    const base = await temporaryFolder()
    await mkdir(join(base, 'x'))
    await writeShardedSafetensors(base, [{ name: 'w', dtype: 'F32', shape: [1], data: new Float32Array(1) }], {})
    const out = join(await temporaryFolder(), 'out')
    const error = await caught(() => mergeAdapter(base, join(llama, 'attention'), out))
    expect(error.message).toBe(`${join(base, 'config.json')}: cannot be read as JSON`)
  })
})
