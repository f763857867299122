import { ortBackend } from '@mirastral/engine'
import { describe, expect, it } from 'vitest'
import { measureMatmulRate } from './calibrate.js'
import { estimate } from './estimate.js'
import { parseModelConfig } from './registry.js'

/** The configurations of published models, as far as they matter to size, and their published number of parameters. */
const published: [string, Record<string, unknown>, number][] = [
  ['Mistral 7B v0.1', { model_type: 'mistral' }, 7_241_732_096],
  ['Mistral 7B v0.3', { model_type: 'mistral', vocab_size: 32768 }, 7_248_023_552],
  ['Llama 2 7B', { model_type: 'llama' }, 6_738_415_616],
  [
    'Llama 3.2 1B',
    {
      model_type: 'llama',
      vocab_size: 128256,
      hidden_size: 2048,
      intermediate_size: 8192,
      num_hidden_layers: 16,
      num_key_value_heads: 8,
      head_dim: 64,
      tie_word_embeddings: true,
    },
    1_235_814_400,
  ],
  [
    'SmolLM2 135M',
    {
      model_type: 'llama',
      vocab_size: 49152,
      hidden_size: 576,
      intermediate_size: 1536,
      num_hidden_layers: 30,
      num_attention_heads: 9,
      num_key_value_heads: 3,
      tie_word_embeddings: true,
    },
    134_515_008,
  ],
  [
    'TinyLlama 1.1B',
    {
      model_type: 'llama',
      hidden_size: 2048,
      intermediate_size: 5632,
      num_hidden_layers: 22,
      num_key_value_heads: 4,
    },
    1_100_048_384,
  ],
  [
    'Qwen2.5 0.5B',
    {
      model_type: 'qwen2',
      hidden_size: 896,
      intermediate_size: 4864,
      num_hidden_layers: 24,
      num_attention_heads: 14,
      num_key_value_heads: 2,
      tie_word_embeddings: true,
    },
    494_032_768,
  ],
  [
    'Qwen3 0.6B',
    {
      model_type: 'qwen3',
      hidden_size: 1024,
      intermediate_size: 3072,
      num_hidden_layers: 28,
      num_attention_heads: 16,
      num_key_value_heads: 8,
      tie_word_embeddings: true,
    },
    596_049_920,
  ],
]
const mistral = parseModelConfig({ model_type: 'mistral' })

describe('estimate', () => {
  it.each(published)('counts the parameters of %s', (_, json, parameters) => {
    expect(estimate(parseModelConfig(json)).parameters.total).toBe(parameters)
  })

  it('counts the trainable parameters of adapters as PEFT does', () => {
    const trainable = (options: Parameters<typeof estimate>[1]) => estimate(mistral, options).parameters.trainable
    expect(trainable({ r: 16 })).toBe(13_631_488)
    expect(trainable({ r: 16, targetModules: 'all-linear' })).toBe(41_943_040)
    expect(trainable({ r: 8, targetModules: ['q_proj', 'v_proj'] })).toBe(3_407_872)
    expect(trainable({ r: 0 })).toBe(0)
  })

  it('gives the bytes of weights exactly', () => {
    const linear = 32 * (4096 * (4096 * 2 + 1024 * 2) + 3 * 4096 * 14336)
    const others = 7_241_732_096 - linear
    const weights = (options: Parameters<typeof estimate>[1]) => estimate(mistral, options).bytes.weights
    expect(weights({ quantization: 'nf4' })).toBe(linear * 0.5625 + others * 4)
    expect(weights({ quantization: 'nf4', blockSize: 128, dtype: 'bfloat16' })).toBe(linear * 0.53125 + others * 2)
    expect(weights({ quantization: 'nf4', nf4Storage: 'dense' })).toBe(7_241_732_096 * 4)
    expect(weights({ quantization: 'none', dtype: 'bfloat16' })).toBe(7_241_732_096 * 2)
  })

  it('adds up, and says whether it fits', () => {
    const { bytes } = estimate(mistral)
    const { total, ...parts } = bytes
    expect(Object.values(parts).reduce((sum, part) => sum + part, 0)).toBe(total)
    expect(estimate(mistral).fits).toBeNull()
    expect(estimate(mistral, { availableBytes: total }).fits).toBe(true)
    expect(estimate(mistral, { availableBytes: total - 1 }).fits).toBe(false)
  })

  it('knows that checkpointing trades operations for memory', () => {
    const [plain, checkpointed] = [estimate(mistral), estimate(mistral, { checkpointing: true })]
    expect(checkpointed.bytes.activations).toBeLessThan(plain.bytes.activations / 4)
    expect(checkpointed.flops).toBeGreaterThan(plain.flops * 1.2)
  })

  it('turns a measured speed into seconds and steps', () => {
    const { flops } = estimate(mistral)
    const result = estimate(mistral, { matmulRate: 1e12, gradientAccumulationSteps: 4, timeBudget: 3060 })
    expect(result.secondsPerStep).toBeCloseTo((4 * flops) / 0.68e12, 6)
    expect(result.stepsInBudget).toBe(Math.floor(3060 / (result.secondsPerStep ?? 0)))
    expect(estimate(mistral)).toMatchObject({ secondsPerStep: null, stepsInBudget: null })
  })

  it('refuses sizes that are none', () => {
    expect(() => estimate(mistral, { batchSize: 0 })).toThrow(
      'estimate: batchSize must be a positive whole number, got 0',
    )
  })
})

describe('measureMatmulRate', () => {
  it('measures a speed', async () => {
    const rate = await measureMatmulRate(ortBackend({ threads: 1, worker: false }))
    expect(rate).toBeGreaterThan(1e6)
    expect(Number.isFinite(rate)).toBe(true)
  })
})
