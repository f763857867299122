import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { beforeAll, describe, expect, it } from 'vitest'
import {
  adapterKey,
  formatModelfile,
  initializeAdapter,
  loadAdapter,
  modulesOfCheckpoint,
  parseLoraConfig,
  planLora,
  writeGgufAdapter,
} from '@mirastral/lora'
import type { Adapter, GgufBase, LoraOptions, ModuleInfo } from '@mirastral/lora'
import { expectClose } from './close.js'
import { caught, fixtures, openFolder, temporaryFolder } from './fixtures.js'
import { readGguf } from './read-gguf.js'
import type { GgufFile } from './read-gguf.js'

const llama = join(fixtures, 'llama')
const base: GgufBase = { modelType: 'llama', numAttentionHeads: 4, numKeyValueHeads: 2 }
let modules: ModuleInfo[]
let readParameter: (name: string) => Promise<Float32Array>

beforeAll(async () => {
  const reader = await openFolder(llama)
  modules = modulesOfCheckpoint(reader.tensors)
  readParameter = async (name) => new Float32Array((await reader.read(name)).buffer)
})

async function written(adapter: Adapter, of = base, dtype: 'F32' | 'F16' = 'F32'): Promise<GgufFile> {
  const path = join(await temporaryFolder(), 'adapter.gguf')
  await writeGgufAdapter(path, adapter, of, { dtype, name: 'helper' })
  return readGguf(await readFile(path))
}

const begin = (options: LoraOptions): Promise<Adapter> =>
  initializeAdapter(planLora(parseLoraConfig({ initLoraWeights: false, ...options }), modules), {
    seed: 2,
    readParameter,
  })

function values(adapter: Adapter, module: string, part: 'lora_A.weight' | 'lora_B.weight'): Float32Array {
  return adapter.tensors.get(adapterKey(module, part))?.data ?? new Float32Array()
}

/** What llama.cpp adds to a weight: alpha / rank times B A, `[out, in]`. */
function update(file: GgufFile, name: string): number[][] {
  const [a, b] = [file.tensor(`${name}.weight.lora_a`), file.tensor(`${name}.weight.lora_b`)]
  const [width, rank] = a.ne
  expect(b.ne[0]).toBe(rank)
  const scale = Number(file.values.get('adapter.lora.alpha')) / rank
  return Array.from({ length: b.ne[1] }, (_row, i) =>
    Array.from({ length: width }, (_column, j) => {
      let sum = 0
      for (let k = 0; k < rank; k++) sum += b.data[i * rank + k] * a.data[k * width + j]
      return scale * sum
    }),
  )
}

/** `scaling * B A` of our adapter, `[out, in]`. */
function delta(adapter: Adapter, module: string): number[][] {
  const layer = adapter.plan.layers.find((l) => l.module === module)
  if (layer === undefined) throw new Error(`no ${module}`)
  const [a, b] = [values(adapter, module, 'lora_A.weight'), values(adapter, module, 'lora_B.weight')]
  return Array.from({ length: layer.outFeatures }, (_row, i) =>
    Array.from({ length: layer.inFeatures }, (_column, j) => {
      let sum = 0
      for (let k = 0; k < layer.rank; k++) sum += b[i * layer.rank + k] * a[k * layer.inFeatures + j]
      return layer.scaling * sum
    }),
  )
}

/**
 * Rotates pairs of one head as each library does, to say independently of any table which row order is right: Hugging
 * Face turns (i, i + d/2), llama.cpp's llama turns (2i, 2i + 1), both by the angle of pair i.
 */
function rotated(vector: readonly number[], pairs: 'half' | 'interleaved'): number[] {
  const result = [...vector]
  const half = vector.length / 2
  for (let i = 0; i < half; i++) {
    const [x, y] = pairs === 'half' ? [i, i + half] : [2 * i, 2 * i + 1]
    const angle = 3 / 10 ** i
    result[x] = vector[x] * Math.cos(angle) - vector[y] * Math.sin(angle)
    result[y] = vector[y] * Math.cos(angle) + vector[x] * Math.sin(angle)
  }
  return result
}

const times = (matrix: readonly (readonly number[])[], x: readonly number[]): number[] =>
  matrix.map((row) => row.reduce((sum, value, j) => sum + value * x[j], 0))
const dot = (a: readonly number[], b: readonly number[]): number => a.reduce((sum, value, i) => sum + value * b[i], 0)

describe('a GGUF adapter', () => {
  it('names itself, its base architecture, its alpha and its tensors as llama.cpp asks', async () => {
    const { adapter } = await loadAdapter(join(llama, 'all-linear'), modules)
    const file = await written(adapter)
    expect(Object.fromEntries(file.values)).toEqual({
      'general.architecture': 'llama',
      'general.type': 'adapter',
      'adapter.type': 'lora',
      'adapter.lora.alpha': 16,
      'general.name': 'helper',
    })
    expect(file.types.get('adapter.lora.alpha')).toBe('float32')
    const parts = ['attn_q', 'attn_k', 'attn_v', 'attn_output', 'ffn_gate', 'ffn_up', 'ffn_down']
    const names = [0, 1].flatMap((i) => parts.flatMap((p) => ['a', 'b'].map((x) => `blk.${i}.${p}.weight.lora_${x}`)))
    expect(file.names.sort()).toEqual(names.sort())
    expect(file.tensor('blk.0.ffn_down.weight.lora_a').ne).toEqual([48, 4])
    expect(file.tensor('blk.0.ffn_down.weight.lora_b').ne).toEqual([4, 32])
  })

  it.each([
    ['self_attn.v_proj', 'attn_v'],
    ['self_attn.o_proj', 'attn_output'],
    ['mlp.gate_proj', 'ffn_gate'],
    ['mlp.up_proj', 'ffn_up'],
    ['mlp.down_proj', 'ffn_down'],
  ])('adds the same to %s', async (module, name) => {
    const { adapter } = await loadAdapter(join(llama, 'all-linear'), modules)
    const file = await written(adapter)
    expectClose(name, update(file, `blk.1.${name}`).flat(), delta(adapter, `model.layers.1.${module}`).flat(), 1e-6)
  })

  it('gives the same attention scores under the rotation of either library', async () => {
    const { adapter } = await loadAdapter(join(llama, 'all-linear'), modules)
    const file = await written(adapter)
    const x = Array.from({ length: 32 }, (_, i) => Math.sin(i + 1))
    const scores = (q: number[][], k: number[][], pairs: 'half' | 'interleaved'): number[] => {
      const [queries, keys] = [
        times(q, x),
        times(
          k,
          x.map((v) => v * v),
        ),
      ]
      const head = (vector: number[], h: number): number[] => vector.slice(8 * h, 8 * h + 8)
      return [0, 1, 2, 3].map((h) => dot(rotated(head(queries, h), pairs), head(keys, Math.floor(h / 2))))
    }
    const ours = scores(
      delta(adapter, 'model.layers.0.self_attn.q_proj'),
      delta(adapter, 'model.layers.0.self_attn.k_proj'),
      'half',
    )
    const theirs = scores(update(file, 'blk.0.attn_q'), update(file, 'blk.0.attn_k'), 'interleaved')
    expectClose('scores', theirs, ours, 1e-6)
  })

  it('orders the rows of a head 0, d/2, 1, d/2 + 1, ... and leaves A alone', async () => {
    const adapter = await begin({ targetModules: ['q_proj'], r: 1 })
    const numbered = values(adapter, 'model.layers.0.self_attn.q_proj', 'lora_B.weight')
    numbered.forEach((_, i) => (numbered[i] = i))
    const file = await written(adapter)
    const b = [...file.tensor('blk.0.attn_q.weight.lora_b').data]
    expect(b.slice(0, 16)).toEqual([0, 4, 1, 5, 2, 6, 3, 7, 8, 12, 9, 13, 10, 14, 11, 15])
    const a = values(adapter, 'model.layers.0.self_attn.q_proj', 'lora_A.weight')
    expect(file.tensor('blk.0.attn_q.weight.lora_a').data).toEqual(a)
  })

  it('keeps the order of qwen2, whose rotation is that of Hugging Face', async () => {
    const adapter = await begin({ targetModules: ['q_proj'] })
    const file = await written(adapter, { ...base, modelType: 'qwen2' })
    expect(file.values.get('general.architecture')).toBe('qwen2')
    const b = values(adapter, 'model.layers.0.self_attn.q_proj', 'lora_B.weight')
    expect(file.tensor('blk.0.attn_q.weight.lora_b').data).toEqual(b)
  })

  it('carries every scale: rank-stabilised, and with patterns of rank and alpha', async () => {
    const adapter = await begin({
      r: 4,
      loraAlpha: 6,
      useRslora: true,
      targetModules: ['v_proj', 'up_proj', 'down_proj'],
      rankPattern: { up_proj: 2 },
      alphaPattern: { down_proj: 11 },
    })
    const file = await written(adapter, { ...base, modelType: 'mistral' })
    for (const [module, name] of [
      ['self_attn.v_proj', 'attn_v'],
      ['mlp.up_proj', 'ffn_up'],
      ['mlp.down_proj', 'ffn_down'],
    ]) {
      expectClose(name, update(file, `blk.0.${name}`).flat(), delta(adapter, `model.layers.0.${module}`).flat(), 1e-6)
    }
  })

  it('can be stored in 16 bits', async () => {
    const { adapter } = await loadAdapter(join(llama, 'attention'), modules)
    const [full, half] = [await written(adapter), await written(adapter, base, 'F16')]
    const name = 'blk.1.attn_v.weight.lora_a'
    expect(half.tensor(name).type).toBe('F16')
    expectClose(name, half.tensor(name).data, full.tensor(name).data, 2 ** -10)
  })

  it('refuses, all at once, what the format cannot hold', async () => {
    const adapter = await begin({ useDora: true, initLoraWeights: true, modulesToSave: ['lm_head'] })
    const error = await caught(() =>
      written(adapter, { modelType: 'gpt2', numAttentionHeads: 4, numKeyValueHeads: NaN }),
    )
    expect(error).toMatchObject({ code: 'MIRASTRAL_LORA_EXPORT', exitCode: 2 })
    expect(error.message.split('\n')).toEqual([
      'GGUF adapter, 4 problems:',
      '  - model type "gpt2" has no GGUF mapping here',
      '  - useDora is not representable; merge the adapter into the base model and convert that',
      '  - modulesToSave (lm_head) is not representable; merge the adapter into the base model and convert that',
      '  - kvHeads must be a whole number of at least 1, got NaN',
    ])
  })
})

describe('a Modelfile', () => {
  it('names base, adapter, parameters and system prompt', () => {
    const text = formatModelfile({
      from: 'mistral:7b-instruct',
      adapter: './adapter.gguf',
      parameters: { temperature: 0.7, stop: '</s>' },
      system: 'Listen first.\nNever diagnose.',
    })
    expect(text).toBe(
      'FROM mistral:7b-instruct\nADAPTER ./adapter.gguf\nPARAMETER temperature 0.7\nPARAMETER stop </s>\n' +
        'SYSTEM """Listen first.\nNever diagnose."""\n',
    )
  })

  it('refuses values that would end a line or a prompt', async () => {
    const options = { from: 'a\nb', adapter: 'x' }
    expect((await caught(() => formatModelfile(options))).message).toBe(
      'Modelfile: from must be one line that is not empty',
    )
    const quoted = { from: 'a', adapter: 'x', system: 'say """' }
    expect((await caught(() => formatModelfile(quoted))).message).toContain('must not contain """')
  })
})
