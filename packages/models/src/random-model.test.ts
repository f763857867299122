import { dequantizeNf4 } from '@mirastral/quant'
import { SafetensorsFolder } from '@mirastral/safetensors'
import { createHash } from 'node:crypto'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { readJsonFile } from './json-file.js'
import { writeRandomModel, writeRandomNf4Model } from './random-model.js'
import { RandomNumbers } from './random-numbers.js'
import { parseModelConfig } from './registry.js'
import { loadModel } from './load.js'

const tiny = {
  model_type: 'llama',
  vocab_size: 40,
  hidden_size: 16,
  intermediate_size: 24,
  num_hidden_layers: 2,
  num_attention_heads: 2,
  attention_bias: true,
}

let root: string
beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'mirastral-random-'))
})
afterEach(() => rm(root, { recursive: true }))

const hash = async (path: string): Promise<string> =>
  createHash('sha256')
    .update(await readFile(path))
    .digest('hex')

describe('RandomNumbers', () => {
  it('gives the same numbers for the same seed, here and everywhere', () => {
    const numbers = new RandomNumbers('a')
    expect([numbers.int32(), numbers.int32(), numbers.int32()]).toEqual([723179310, 1702118316, 2020659545])
  })

  it('fills with numbers of mean 0 and the asked deviation', () => {
    const values = new Float32Array(100_001)
    new RandomNumbers('b').fillNormal(values, 3)
    const mean = values.reduce((sum, x) => sum + x, 0) / values.length
    const variance = values.reduce((sum, x) => sum + (x - mean) ** 2, 0) / values.length
    expect(Math.abs(mean)).toBeLessThan(0.03)
    expect(Math.abs(Math.sqrt(variance) - 3)).toBeLessThan(0.03)
    const beyond = values.filter((x) => Math.abs(x) > 6).length / values.length
    expect(Math.abs(beyond - 0.0455)).toBeLessThan(0.003)
  })
})

describe('writeRandomModel', () => {
  it('writes a model folder whose bytes depend on the seed alone', async () => {
    await writeRandomModel(join(root, 'a'), tiny, { seed: 1 })
    await writeRandomModel(join(root, 'b'), tiny, { seed: 1 })
    await writeRandomModel(join(root, 'c'), tiny, { seed: 2 })
    const [a, b, c] = await Promise.all(['a', 'b', 'c'].map((name) => hash(join(root, name, 'model.safetensors'))))
    expect(a).toBe(b)
    expect(a).not.toBe(c)
    const config = parseModelConfig(await readJsonFile(join(root, 'a', 'config.json')))
    expect(config).toMatchObject({ dtype: 'float32', hiddenSize: 16 })
  })

  it('initialises norms to 1, biases to 0 and the rest to normal numbers, in the dtype asked for, in shards', async () => {
    await writeRandomModel(root, tiny, { seed: 1, std: 0.1, dtype: 'bfloat16', maxShardBytes: 4000 })
    const folder = await SafetensorsFolder.open(root)
    expect(new Set(folder.files.values()).size).toBeGreaterThan(1)
    const values = async (name: string) => new Uint16Array((await folder.read(name)).buffer)
    expect([...(await values('model.norm.weight'))]).toEqual(Array(16).fill(0x3f80))
    expect([...(await values('model.layers.1.self_attn.q_proj.bias'))]).toEqual(Array(16).fill(0))
    expect(new Set(await values('lm_head.weight')).size).toBeGreaterThan(200)
    expect([...folder.tensors.values()].every(({ dtype }) => dtype === 'BF16')).toBe(true)
    await folder.close()
  })

  it('says what is wrong with a configuration before it writes anything', async () => {
    const bad = writeRandomModel(join(root, 'x'), { ...tiny, vocab_size: 0 }, { seed: 1 })
    await expect(bad).rejects.toThrow('configuration: vocab_size: must be a whole number from 1 to 16777216, got 0')
  })
})

describe('writeRandomNf4Model', () => {
  it('writes a bitsandbytes checkpoint in shards, whose weights have the deviation asked for', async () => {
    const json = { ...tiny, hidden_size: 64, intermediate_size: 256 }
    await writeRandomNf4Model(root, json, { seed: 3, std: 0.05, maxShardBytes: 20_000 })
    const { weights, config } = await loadModel(root)
    expect(config.quantization).toMatchObject({ quantType: 'nf4', doubleQuant: false })
    const key = 'model.layers.1.mlp.gate_proj.weight'
    expect(weights.types.get(key)).toEqual({ dtype: 'nf4', shape: [256, 64], blockSize: 64 })
    const tensor = await weights.get(key)
    await weights.close()
    const values = 'codes' in tensor ? dequantizeNf4(tensor) : new Float32Array()
    const deviation = Math.sqrt(values.reduce((sum, x) => sum + x * x, 0) / values.length)
    expect(Math.abs(deviation / 0.05 - 1)).toBeLessThan(0.03)
  })
})
