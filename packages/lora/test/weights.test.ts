import { copyFile, mkdir, readFile, rename, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { beforeAll, describe, expect, it } from 'vitest'
import {
  initializeAdapter,
  loadAdapter,
  modulesOfCheckpoint,
  parseLoraConfig,
  planLora,
  plainLora,
  saveAdapter,
  splitPlainLora,
} from '@mirastral/lora'
import type { Adapter, LoraOptions, ModuleInfo } from '@mirastral/lora'
import { bf16ToF32, f16ToF32, f32ToBf16, f32ToF16, readFloat32, writeSafetensors } from '@mirastral/safetensors'
import { caught, fixtures, openFile, openFolder, temporaryFolder } from './fixtures.js'

const llama = join(fixtures, 'llama')
let modules: ModuleInfo[]
let readParameter: (name: string) => Promise<Float32Array>

beforeAll(async () => {
  const reader = await openFolder(llama)
  modules = modulesOfCheckpoint(reader.tensors)
  readParameter = (name) => readFloat32(reader, name)
})

const build = (options: LoraOptions): Promise<Adapter> =>
  initializeAdapter(planLora(parseLoraConfig(options), modules), { seed: 3, readParameter })

describe('an adapter folder', () => {
  it.each(['attention', 'all-linear', 'dora', 'modules'])(
    'of PEFT ("%s") is read and written unchanged',
    async (name) => {
      const source = join(llama, name)
      const out = join(await temporaryFolder(), 'copy')
      const { adapter, warnings } = await loadAdapter(source, modules)
      await saveAdapter(out, adapter)
      expect(warnings).toEqual([])
      for (const file of ['adapter_config.json', 'adapter_model.safetensors']) {
        expect(await readFile(join(out, file)), file).toEqual(await readFile(join(source, file)))
      }
    },
  )

  it.each([
    ['F32', (x: Float32Array): Float32Array => x],
    ['F16', (x: Float32Array): Float32Array => f16ToF32(f32ToF16(x))],
    ['BF16', (x: Float32Array): Float32Array => bf16ToF32(f32ToBf16(x))],
  ] as const)('stores every kind of tensor as %s', async (dtype, rounded) => {
    const folder = await temporaryFolder()
    const adapter = await build({ targetModules: ['q_proj', 'up_proj'], useDora: true, modulesToSave: ['lm_head'] })
    await saveAdapter(folder, adapter, { dtype })
    const { adapter: loaded } = await loadAdapter(folder, modules)
    const expected = [...adapter.tensors].map(([key, t]) => [key, { ...t, data: rounded(t.data) }] as const)
    expect([...loaded.tensors]).toEqual(expected)
    const file = await openFile(join(folder, 'adapter_model.safetensors'))
    expect(file.metadata).toEqual({ format: 'pt' })
    expect(new Set([...file.tensors.values()].map((t) => t.dtype))).toEqual(new Set([dtype]))
  })

  it('names every missing, unexpected and mis-shaped tensor at once', async () => {
    const folder = await temporaryFolder()
    await copyFile(join(llama, 'modules', 'adapter_config.json'), join(folder, 'adapter_config.json'))
    const source = await openFile(join(llama, 'modules', 'adapter_model.safetensors'))
    const q = 'base_model.model.model.layers.0.self_attn.q_proj'
    const entries = []
    for (const [name, { dtype, shape }] of source.tensors) {
      if (name === `${q}.lora_A.weight`) continue
      const bad = name === `${q}.lora_B.weight`
      entries.push({ name, dtype, shape: bad ? [4, 32] : shape, data: await source.read(name) })
    }
    entries.push({ name: 'base_model.model.stray', dtype: 'I32' as const, shape: [1], data: new Int32Array(1) })
    await writeSafetensors(join(folder, 'adapter_model.safetensors'), entries)
    const error = await caught(() => loadAdapter(folder, modules))
    expect(error).toMatchObject({ code: 'MIRASTRAL_LORA_WEIGHTS', exitCode: 2 })
    expect(error.message.split('\n').slice(1)).toEqual([
      `  - ${q}.lora_A.weight: is missing, shape [4, 32]`,
      `  - ${q}.lora_B.weight: must have shape [32, 4], got [4, 32]`,
      '  - base_model.model.stray: is unexpected, shape [1]',
      '  - base_model.model.stray: must hold floats, got I32',
    ])
  })

  it('with only a pickle says how to get safetensors', async () => {
    const folder = await temporaryFolder()
    await copyFile(join(llama, 'attention', 'adapter_config.json'), join(folder, 'adapter_config.json'))
    await writeFile(join(folder, 'adapter_model.bin'), 'pickle')
    expect((await caught(() => loadAdapter(folder, modules))).message).toContain('has only adapter_model.bin')
  })

  it('that is none is named as such', async () => {
    const folder = await temporaryFolder()
    const error = await caught(() => loadAdapter(folder, modules))
    expect(error.message).toContain(
      `${join(folder, 'adapter_config.json')}: cannot be read; is ${folder} an adapter folder?`,
    )
  })

  it('of another model is refused', async () => {
    const wider = modules.map((m) => (m.kind === 'linear' ? { ...m, shape: m.shape.map((n) => 2 * n) } : m))
    const error = await caught(() => loadAdapter(join(llama, 'attention'), wider))
    expect(error.message).toMatch(/must have shape \[4, 64\], got \[4, 32\]/)
  })

  it('begun by PiSSA and not converted is refused', async () => {
    const folder = await temporaryFolder()
    const text = await readFile(join(llama, 'pissa', 'adapter_config.json'), 'utf8')
    const unconverted = text.replace('"init_lora_weights": true', '"init_lora_weights": "pissa"')
    await writeFile(join(folder, 'adapter_config.json'), unconverted)
    expect((await caught(() => loadAdapter(folder, modules))).message).toContain(
      'path_initial_model_for_weight_conversion',
    )
  })

  it('is left as it was when tensors are missing', async () => {
    const folder = await temporaryFolder()
    const adapter = await build({ targetModules: ['q_proj'] })
    await saveAdapter(folder, adapter)
    const before = await readFile(join(folder, 'adapter_model.safetensors'))
    const [, ...rest] = adapter.tensors
    const error = await caught(() => saveAdapter(folder, { plan: adapter.plan, tensors: new Map(rest) }))
    expect(error).toMatchObject({ code: 'MIRASTRAL_LORA_WEIGHTS', exitCode: 1 })
    expect(await readFile(join(folder, 'adapter_model.safetensors'))).toEqual(before)
  })

  it('needs nothing but its own files', async () => {
    const folder = await temporaryFolder()
    await mkdir(join(folder, 'a'))
    await saveAdapter(join(folder, 'a'), await build({ targetModules: ['k_proj'] }))
    await rename(join(folder, 'a'), join(folder, 'b'))
    expect((await loadAdapter(join(folder, 'b'), modules)).adapter.plan.layers).toHaveLength(2)
  })
})

describe('an adapter whose initialisation was taken off the base', () => {
  it.each(['pissa', 'olora'] as const)(
    'begun by %s is saved as plain LoRA of twice the rank, which splits again',
    async (init) => {
      const options = {
        targetModules: ['q_proj', 'down_proj'],
        r: 3,
        loraAlpha: 5,
        useRslora: true,
        initLoraWeights: init,
      }
      const plan = planLora(parseLoraConfig({ ...options, rankPattern: { down_proj: 2 } }), modules)
      const began = await initializeAdapter(plan, { seed: 1, readParameter })
      const trained = new Map(
        [...began.tensors].map(([k, t]) => [k, { ...t, data: t.data.map((v, i) => v + i / 100) }]),
      )
      const plain = plainLora({ plan, tensors: trained }, began.subtracted)
      expect(plain.plan.config).toMatchObject({ r: 6, rankPattern: { down_proj: 4 }, initLoraWeights: true })
      plain.plan.layers.forEach((layer, i) => {
        expect(layer.scaling).toBeCloseTo(plan.layers[i].scaling, 12)
      })
      const split = splitPlainLora(plan, plain.tensors)
      expect(split.tensors).toEqual(trained)
      expect(split.subtracted).toEqual(began.subtracted)
      const folder = await temporaryFolder()
      await saveAdapter(folder, plain)
      const { adapter } = await loadAdapter(folder, modules)
      expect(adapter.tensors).toEqual(plain.tensors)
    },
  )

  it('cannot be saved without that', async () => {
    const adapter = await build({ targetModules: ['q_proj'], initLoraWeights: 'olora' })
    const error = await caught(async () => saveAdapter(await temporaryFolder(), adapter))
    expect(error.message).toMatch(/^internal: saveAdapter: .*plainLora/)
  })
})
