import { createHash } from 'node:crypto'
import { cp, mkdir, mkdtemp, readFile, readdir, rm, truncate, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { HostTensor } from '@mirastral/engine'
import { dequantizeNf4 } from '@mirastral/quant'
import type { TensorEntry } from '@mirastral/safetensors'
import { SafetensorsFolder, writeSafetensors } from '@mirastral/safetensors'
import type { LoadedModel, LoadOptions } from '@mirastral/models'
import { loadModel, ModelError, writeRandomModel } from '@mirastral/models'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { fixtures } from './golden.js'
import { commit, repoFrom, startHub } from './hub-server.js'

let root: string
beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'mirastral-load-'))
})
afterEach(() => rm(root, { recursive: true }))

async function failure(promise: Promise<unknown>): Promise<ModelError> {
  const error: unknown = await promise.then(
    () => new Error('nothing was thrown'),
    (thrown: unknown) => thrown,
  )
  if (error instanceof ModelError) return error
  throw error
}

/** A copy of a golden model whose tensors are changed. */
async function changed(name: string, change: (entries: Map<string, TensorEntry>) => void): Promise<string> {
  const folder = join(root, 'changed')
  await mkdir(folder)
  await cp(join(fixtures, name, 'config.json'), join(folder, 'config.json'))
  const reader = await SafetensorsFolder.open(join(fixtures, name))
  const entries = new Map<string, TensorEntry>()
  for (const [key, { dtype, shape }] of reader.tensors) {
    entries.set(key, { name: key, dtype, shape, data: await reader.read(key) })
  }
  await reader.close()
  change(entries)
  await writeSafetensors(join(folder, 'model.safetensors'), entries.values())
  return folder
}

/** SHA-256 of all weights as they are given to an engine. */
async function digest({ weights }: LoadedModel): Promise<string> {
  const hash = createHash('sha256')
  const bytes = (view: ArrayBufferView) => new Uint8Array(view.buffer, view.byteOffset, view.byteLength)
  const parts = (tensor: HostTensor) => ('codes' in tensor ? [tensor.codes, tensor.absmax] : [tensor.data])
  for (const key of weights.types.keys()) for (const part of parts(await weights.get(key))) hash.update(bytes(part))
  await weights.close()
  return hash.digest('hex')
}

describe('a model folder', () => {
  it('is refused with all missing, unexpected and mis-shaped tensors at once', async () => {
    const folder = await changed('llama-tied', (entries) => {
      const norm = entries.get('model.norm.weight')
      entries.delete('model.layers.0.self_attn.q_proj.weight')
      entries.delete('model.layers.1.mlp.up_proj.weight')
      if (norm)
        entries.set('model.layers.0.self_attn.q_norm.weight', {
          ...norm,
          name: 'model.layers.0.self_attn.q_norm.weight',
        })
      entries.set('model.norm.weight', {
        name: 'model.norm.weight',
        dtype: 'F32',
        shape: [4, 8],
        data: new Float32Array(32),
      })
      const key = 'model.layers.0.input_layernorm.weight'
      entries.set(key, { name: key, dtype: 'F64', shape: [32], data: new Float64Array(32) })
    })
    const error = await failure(loadModel(folder))
    expect(error).toMatchObject({ kind: 'checkpoint', exitCode: 2 })
    expect(error.problems).toEqual([
      'missing model.layers.0.self_attn.q_proj.weight',
      'missing model.layers.1.mlp.up_proj.weight',
      'unexpected model.layers.0.self_attn.q_norm.weight',
      'model.layers.0.input_layernorm.weight must be F32, F16 or BF16, got F64[32]',
      'model.norm.weight must be [32], got F32[4,8]',
    ])
    expect(error.message).toContain('missing 2: model.layers.0.self_attn.q_proj.weight, model.layers.1')
    expect(error.message.split('\n')).toHaveLength(1)
  })

  it('may hold a tied head and the buffers of old checkpoints', async () => {
    const folder = await changed('llama-tied', (entries) => {
      const embedding = entries.get('model.embed_tokens.weight')
      if (embedding) entries.set('lm_head.weight', { ...embedding, name: 'lm_head.weight' })
      const buffer = 'model.layers.0.self_attn.rotary_emb.inv_freq'
      entries.set(buffer, { name: buffer, dtype: 'F32', shape: [4], data: new Float32Array(4) })
    })
    const model = await loadModel(folder)
    expect(model.weights.types.has('lm_head.weight')).toBe(false)
    await model.weights.close()
  })

  it('is told apart from folders that are something else', async () => {
    const message = async (path: string) => (await failure(loadModel(path))).message
    expect(await message(join(root, 'none'))).toBe(
      `model: must be a folder that exists, or owner/name on the Hub, got ${join(root, 'none')}`,
    )
    const rule = `${root}: must be a model folder with config.json and safetensors weights`
    expect(await message(root)).toBe(`${rule}; there is no config.json`)
    await writeFile(join(root, 'adapter_config.json'), '{}')
    expect(await message(root)).toBe(`${rule}; it holds an adapter; give its base model`)
    await writeFile(join(root, 'config.json'), '{')
    expect(await message(root)).toBe(`${root}: must hold safetensors weights; there are no weights`)
    await writeFile(join(root, 'pytorch_model.bin'), '')
    expect(await message(root)).toContain('it has pytorch_model.bin; convert it')
    await writeFile(join(root, 'model.safetensors'), '')
    expect(await message(root)).toMatch(/config\.json: must be JSON/)
  })

  it('with a truncated shard is refused by name', async () => {
    const folder = join(root, 'model')
    await cp(join(fixtures, 'mistral-window'), folder, { recursive: true })
    await truncate(join(folder, 'model-00002-of-00004.safetensors'), 1000)
    await expect(loadModel(folder)).rejects.toThrow('model-00002-of-00004.safetensors')
  })

  it('with a broken description of a 4-bit weight is refused', async () => {
    const key = 'model.layers.0.mlp.up_proj.weight.quant_state.bitsandbytes__nf4'
    const folder = await changed('mistral-bnb-nf4', (entries) => {
      entries.set(key, { name: key, dtype: 'U8', shape: [1], data: Uint8Array.of(123) })
    })
    expect((await failure(loadModel(folder))).problems).toEqual([`${key} must describe the weight in JSON`])
  })
})

describe('identity', () => {
  const identityOf = async (folder: string): Promise<string> => {
    const { identity, weights } = await loadModel(folder)
    await weights.close()
    return identity
  }

  it('is kept by a copy and by other shards, and changed by another training or meaning', async () => {
    const json = JSON.parse(await readFile(join(fixtures, 'llama-tied', 'config.json'), 'utf8')) as Record<
      string,
      unknown
    >
    await writeRandomModel(join(root, 'a'), json, { seed: 1 })
    await writeRandomModel(join(root, 'b'), json, { seed: 1, maxShardBytes: 20_000 })
    await writeRandomModel(join(root, 'c'), json, { seed: 2 })
    await writeRandomModel(join(root, 'd'), { ...json, rms_norm_eps: 1e-5 }, { seed: 1 })
    const [a, b, c, d] = await Promise.all(['a', 'b', 'c', 'd'].map((name) => identityOf(join(root, name))))
    expect(a).toMatch(/^[0-9a-f]{64}$/)
    expect(b).toBe(a)
    expect(new Set([a, c, d]).size).toBe(3)
  })
})

describe('the quantized cache', () => {
  const source = join(fixtures, 'mistral-window')
  const options = (): LoadOptions => ({ quantizedCache: true, quantizedCacheDir: join(root, 'cache') })

  it('gives the same weights as quantizing, from the second start on without the full ones', async () => {
    const direct = await digest(await loadModel(source, { quantizedCache: false }))
    const first = await loadModel(source, options())
    const { identity } = first
    expect(await digest(first)).toBe(direct)
    let quantized = 0
    const second = await loadModel(source, { ...options(), onQuantize: () => quantized++ })
    expect(second).toMatchObject({ identity, folder: source, warnings: [] })
    expect(await digest(second)).toBe(direct)
    expect(quantized).toBe(0)
    expect(await readdir(join(root, 'cache'))).toHaveLength(1)
  })

  it('has an entry for each block size, and none where nothing is quantized', async () => {
    for (const extra of [{ blockSize: 32 }, { blockSize: 64 }, { quantization: 'none' as const }]) {
      await (await loadModel(source, { ...options(), ...extra })).weights.close()
    }
    await (await loadModel(join(fixtures, 'mistral-bnb-nf4'), options())).weights.close()
    expect(await readdir(join(root, 'cache'))).toHaveLength(2)
  })

  it('replaces a damaged entry, and removes what a killed run left', async () => {
    await (await loadModel(source, options())).weights.close()
    const [entry] = await readdir(join(root, 'cache'))
    await truncate(join(root, 'cache', entry, 'model.safetensors'), 500)
    await mkdir(join(root, 'cache', 'x.partial-4194999'))
    const direct = await digest(await loadModel(source, { quantizedCache: false }))
    expect(await digest(await loadModel(source, options()))).toBe(direct)
    expect(await readdir(join(root, 'cache'))).toEqual([entry])
  })

  it('is not used by default for a small model', async () => {
    await (await loadModel(source, { quantizedCacheDir: join(root, 'cache') })).weights.close()
    await expect(readdir(join(root, 'cache'))).rejects.toThrow('ENOENT')
  })
})

describe('loadModel', () => {
  it('loads owner/name@revision from the Hub, and offline the next time', async () => {
    const hub = await startHub({ 'founders/tiny': await repoFrom(join(fixtures, 'qwen2')) })
    const options = { hub: { endpoint: hub.endpoint, cacheDir: join(root, 'hub'), token: 'hf_test', retryDelay: 1 } }
    const online = await loadModel('founders/tiny@v1', options)
    await online.weights.close()
    await hub.close()
    const offline = await loadModel('founders/tiny', { ...options, revision: 'v1' })
    await offline.weights.close()
    expect(offline).toMatchObject({ name: 'founders/tiny', commit, folder: online.folder, identity: online.identity })
    const local = await loadModel(join(fixtures, 'qwen2'))
    await local.weights.close()
    expect(local).toMatchObject({ name: join(fixtures, 'qwen2'), commit: null, identity: online.identity })
  })

  it('gives linear layers in 4 bits and everything else in float32', async () => {
    const { weights, architecture, config } = await loadModel(join(fixtures, 'qwen2'))
    for (const { name, kind, shape } of architecture.parameters(config)) {
      const type = weights.types.get(kind === 'linear' ? `${name}.weight` : name)
      expect(type).toEqual(kind === 'linear' ? { dtype: 'nf4', shape, blockSize: 64 } : { dtype: 'f32', shape })
    }
    const tensor = await weights.get('model.layers.0.self_attn.q_proj.weight')
    expect('codes' in tensor && dequantizeNf4(tensor)).toHaveLength(32 * 32)
    await weights.close()
  })

  it('names the tensor that holds a number that is none', async () => {
    const key = 'model.layers.1.mlp.down_proj.weight'
    const folder = await changed('llama-tied', (entries) => {
      entries.set(key, { name: key, dtype: 'F32', shape: [32, 48], data: new Float32Array(32 * 48).fill(NaN) })
    })
    const { weights } = await loadModel(folder)
    await expect(weights.get(key)).rejects.toThrow(key)
    await weights.close()
  })
})
