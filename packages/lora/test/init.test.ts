import { join } from 'node:path'
import { beforeAll, describe, expect, it } from 'vitest'
import { adapterKey, initializeAdapter, modulesOfCheckpoint, parseLoraConfig, planLora } from '@mirastral/lora'
import type { InitialAdapter, LoraOptions, ModuleInfo } from '@mirastral/lora'
import { readFloat32 } from '@mirastral/safetensors'
import type { SafetensorsFile } from '@mirastral/safetensors'
import { expectClose } from './close.js'
import { caught, fixtures, openFile, openFolder } from './fixtures.js'

const llama = join(fixtures, 'llama')
const wide: ModuleInfo[] = [{ name: 'x.q_proj', kind: 'linear', shape: [384, 512] }]
let modules: ModuleInfo[]
let readParameter: (name: string) => Promise<Float32Array>
let golden: SafetensorsFile

beforeAll(async () => {
  const reader = await openFolder(llama)
  modules = modulesOfCheckpoint(reader.tensors)
  readParameter = (name) => readFloat32(reader, name)
  golden = await openFile(join(llama, 'initial.safetensors'))
})

const begin = (options: LoraOptions, of = modules, seed = 1): Promise<InitialAdapter> =>
  initializeAdapter(planLora(parseLoraConfig(options), of), { seed, readParameter })

function values(adapter: InitialAdapter, module: string, part: 'lora_A.weight' | 'lora_B.weight'): Float32Array {
  const tensor = adapter.tensors.get(adapterKey(module, part))
  if (tensor === undefined) throw new Error(`no ${part}`)
  return tensor.data
}

function product(b: Float32Array, a: Float32Array, rank: number): Float32Array {
  const [out, width] = [b.length / rank, a.length / rank]
  return Float32Array.from({ length: out * width }, (_, i) => {
    let sum = 0
    for (let k = 0; k < rank; k++) sum += b[Math.floor(i / width) * rank + k] * a[k * width + (i % width)]
    return sum
  })
}

const moment = (data: Float32Array, power: number): number => data.reduce((s, x) => s + x ** power, 0) / data.length

describe('the first values of an adapter', () => {
  it('are A uniform within 1/sqrt(in) and B zero by default', async () => {
    const adapter = await begin({ r: 16, targetModules: ['q_proj'] }, wide)
    const a = values(adapter, 'x.q_proj', 'lora_A.weight')
    const bound = 1 / Math.sqrt(512)
    expect(Math.max(...a.map(Math.abs))).toBeLessThanOrEqual(bound)
    expect(Math.max(...a.map(Math.abs))).toBeGreaterThan(0.99 * bound)
    expect(Math.abs(moment(a, 1))).toBeLessThan(0.03 * bound)
    expect(moment(a, 2) / (bound ** 2 / 3)).toBeCloseTo(1, 1)
    expect(values(adapter, 'x.q_proj', 'lora_B.weight').every((x) => x === 0)).toBe(true)
    expect(adapter.subtracted.size).toBe(0)
  })

  it('are normal with deviation 1/r when gaussian', async () => {
    const adapter = await begin({ r: 16, initLoraWeights: 'gaussian', targetModules: ['q_proj'] }, wide)
    const a = values(adapter, 'x.q_proj', 'lora_A.weight')
    expect(moment(a, 2) * 16 ** 2).toBeCloseTo(1, 1)
    expect(moment(a, 4) / moment(a, 2) ** 2).toBeCloseTo(3, 0)
    expect(values(adapter, 'x.q_proj', 'lora_B.weight').every((x) => x === 0)).toBe(true)
  })

  it('are random on both sides when false', async () => {
    const options = { r: 16, initLoraWeights: false, loraBias: true, targetModules: ['q_proj'] }
    const adapter = await begin(options, [{ ...wide[0], hasBias: true }])
    const b = values(adapter, 'x.q_proj', 'lora_B.weight')
    expect(moment(b, 2) / (1 / 16 / 3)).toBeCloseTo(1, 1)
    const bias = adapter.tensors.get('base_model.model.x.q_proj.lora_B.bias')
    expect(bias?.data.every((x) => x !== 0 && Math.abs(x) <= 0.25)).toBe(true)
  })

  it('have a product of zero and rows of one length when orthogonal', async () => {
    const adapter = await begin({ r: 8, initLoraWeights: 'orthogonal', targetModules: ['q_proj'] }, wide)
    const [a, b] = [values(adapter, 'x.q_proj', 'lora_A.weight'), values(adapter, 'x.q_proj', 'lora_B.weight')]
    expect(product(b, a, 8).every((x) => Math.abs(x) < 1e-6)).toBe(true)
    expect(moment(a, 2) * 100).toBeCloseTo(0.5, 1)
    expect(moment(b, 2) * 100).toBeCloseTo(0.5, 1)
  })

  it.each(['pissa', 'olora'] as const)('multiply to what PEFT takes off the base when %s', async (init) => {
    const options = { r: 4, loraAlpha: 8, useRslora: init === 'pissa', targetModules: ['k_proj', 'down_proj'] }
    const adapter = await begin({ ...options, initLoraWeights: init, layersToTransform: [0] })
    expect(adapter.subtracted).toEqual(adapter.tensors)
    for (const { module } of adapter.plan.layers) {
      const expected = await Promise.all(
        (['lora_B.weight', 'lora_A.weight'] as const).map((p) =>
          readFloat32(golden, `${init}.${adapterKey(module, p)}`),
        ),
      )
      const [b, a] = [values(adapter, module, 'lora_B.weight'), values(adapter, module, 'lora_A.weight')]
      expectClose(module, product(b, a, 4), product(expected[0], expected[1], 4), 1e-4)
      // Every direction has the length that PEFT gives it; only its sign is free.
      const lengths = (x: Float32Array): number[] =>
        Array.from({ length: 4 }, (_, k) => Math.hypot(...x.subarray((k * x.length) / 4, ((k + 1) * x.length) / 4)))
      expectClose(`${module} A`, lengths(a), lengths(expected[1]), 1e-4)
    }
  })

  it('come close to the best rank-r part of a large weight in a few iterations of pissa', async () => {
    // Ten strong directions above noise: [256, 320].
    const weight = new Float32Array(256 * 320).map((_, i) => 0.01 * Math.sin(i * i))
    for (let k = 0; k < 10; k++) {
      for (let i = 0; i < weight.length; i++) {
        weight[i] += Math.sin((k + 1) * Math.floor(i / 320)) * Math.cos((k + 2) * (i % 320)) * 2 ** -k
      }
    }
    const plan = planLora(parseLoraConfig({ r: 10, initLoraWeights: 'pissa_niter_4', targetModules: ['q_proj'] }), [
      { name: 'q_proj', kind: 'linear', shape: [256, 320] },
    ])
    const adapter = await initializeAdapter(plan, { seed: 5, readParameter: () => Promise.resolve(weight) })
    const scaling = plan.layers[0].scaling
    const part = product(values(adapter, 'q_proj', 'lora_B.weight'), values(adapter, 'q_proj', 'lora_A.weight'), 10)
    const rest = weight.map((w, i) => w - scaling * part[i])
    // What remains is the noise, whose energy is 0.01² / 2 per element.
    expect(moment(rest, 2)).toBeLessThan(1.1 * (0.01 ** 2 / 2))
  })

  it('of DoRA are the row norms of the weight', async () => {
    const adapter = await begin({ r: 4, useDora: true, targetModules: ['k_proj', 'down_proj'], layersToTransform: [0] })
    for (const { module } of adapter.plan.layers) {
      const key = adapterKey(module, 'lora_magnitude_vector')
      expectClose(key, adapter.tensors.get(key)?.data ?? [], await readFloat32(golden, `dora.${key}`), 1e-6)
    }
  })

  it('of modules trained in full are those of the base', async () => {
    const adapter = await begin({ targetModules: ['q_proj'], modulesToSave: ['lm_head'] })
    expect(adapter.tensors.get('base_model.model.lm_head.weight')?.data).toEqual(await readParameter('lm_head.weight'))
  })

  it('are the same for the same seed, others for another, and do not depend on the other modules', async () => {
    const one = await begin({ targetModules: ['q_proj', 'v_proj'] })
    expect((await begin({ targetModules: ['q_proj', 'v_proj'] })).tensors).toEqual(one.tensors)
    const key = adapterKey('model.layers.1.self_attn.v_proj', 'lora_A.weight')
    expect((await begin({ targetModules: ['v_proj'] })).tensors.get(key)).toEqual(one.tensors.get(key))
    expect((await begin({ targetModules: ['v_proj'] }, modules, 2)).tensors.get(key)).not.toEqual(one.tensors.get(key))
  })

  it('that need the base ask for it', async () => {
    const plan = planLora(parseLoraConfig({ useDora: true }), modules)
    const error = await caught(() => initializeAdapter(plan, { seed: 1 }))
    expect(error).toMatchObject({ code: 'MIRASTRAL_LORA_INIT', exitCode: 1 })
    expect(error.message).toContain('model.layers.0.self_attn.q_proj.weight')
  })
})
