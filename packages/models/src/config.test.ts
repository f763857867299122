import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { ModelError } from './errors.js'
import { parseModelConfig } from './registry.js'
import { ropeFrequencies } from './rope.js'

interface Row {
  given: Record<string, unknown>
  resolved: {
    vocab_size: number
    hidden_size: number
    intermediate_size: number
    num_hidden_layers: number
    num_attention_heads: number
    num_key_value_heads: number
    max_position_embeddings: number
    rms_norm_eps: number
    initializer_range: number
    head_dim: number
    tie_word_embeddings: boolean
    bos_token_id: number | null
    eos_token_id: number | null
    pad_token_id: number | null
    sliding_window: number | null
    layer_types: string[] | null
    rope_parameters: Record<string, unknown>
  }
  inverse_frequencies: number[]
  attention_factor: number
}

const fixture = fileURLToPath(new URL('../../../fixtures/models/configs.json', import.meta.url))
const rows = JSON.parse(readFileSync(fixture, 'utf8')) as Row[]

function problemsOf(json: unknown): readonly string[] {
  try {
    parseModelConfig(json)
  } catch (error) {
    if (error instanceof ModelError) return error.problems.length > 0 ? error.problems : [error.message]
    throw error
  }
  return []
}

describe('a config.json has the meaning that Transformers gives it', () => {
  it.each(rows.map((row) => [JSON.stringify(row.given), row] as const))('%s', (_, { given, resolved, ...rope }) => {
    const config = parseModelConfig(given)
    const windows = Array.from({ length: resolved.num_hidden_layers }, (__, layer) =>
      resolved.layer_types && resolved.layer_types[layer] !== 'sliding_attention' ? null : resolved.sliding_window,
    )
    expect(config).toMatchObject({
      modelType: given.model_type,
      vocabSize: resolved.vocab_size,
      hiddenSize: resolved.hidden_size,
      intermediateSize: resolved.intermediate_size,
      numHiddenLayers: resolved.num_hidden_layers,
      numAttentionHeads: resolved.num_attention_heads,
      numKeyValueHeads: resolved.num_key_value_heads,
      headDim: resolved.head_dim,
      maxPositionEmbeddings: resolved.max_position_embeddings,
      rmsNormEps: resolved.rms_norm_eps,
      initializerRange: resolved.initializer_range,
      tieWordEmbeddings: resolved.tie_word_embeddings,
      bosTokenId: resolved.bos_token_id,
      eosTokenIds: resolved.eos_token_id === null ? [] : [resolved.eos_token_id],
      padTokenId: resolved.pad_token_id,
      slidingWindow: windows,
      rope: { type: resolved.rope_parameters.rope_type, theta: resolved.rope_parameters.rope_theta },
    })
    const { inverseFrequencies, attentionFactor } = ropeFrequencies(config.rope, config.headDim)
    expect(attentionFactor).toBeCloseTo(rope.attention_factor, 12)
    expect(inverseFrequencies).toHaveLength(rope.inverse_frequencies.length)
    const worst = Math.max(...rope.inverse_frequencies.map((f, i) => Math.abs(inverseFrequencies[i] / f - 1)))
    expect(worst).toBeLessThan(3e-7)
  })
})

describe('parseModelConfig', () => {
  it('reports every problem at once, also those between keys that are right', () => {
    const problems = problemsOf({
      model_type: 'llama',
      hidden_size: '64',
      num_attention_heads: 6,
      num_key_value_heads: 4,
      head_dim: 7,
      tie_word_embeddings: 'yes',
      hidden_act: 'gelu',
      torch_dtype: 'int8',
      rope_scaling: { type: 'longrope' },
      partial_rotary_factor: 0.5,
      quantization_config: { quant_method: 'gptq', bits: 4 },
      architectures: ['LlamaForSequenceClassification'],
      eos_token_id: [2, -1],
    })
    expect(problems).toEqual([
      'hidden_size: must be a whole number from 1 to 16777216, got "64"',
      'hidden_act: must be silu or swish, got "gelu"',
      'tie_word_embeddings: must be true or false, got "yes"',
      'eos_token_id.1: must be a token id, got -1',
      'architectures: must be a ...ForCausalLM, got ["LlamaForSequenceClassification"]',
      'num_key_value_heads: must divide num_attention_heads = 6, got 4',
      'head_dim: must be even for the rotary embedding, got 7',
      'rope_scaling.partial_rotary_factor: only 1 is supported, got 0.5',
      'rope_scaling.rope_type: must be one of default, linear, llama3, yarn, got "longrope"',
      'torch_dtype: must be one of float32, float16, bfloat16, got "int8"',
      'quantization_config.quant_method: only bitsandbytes is supported; use the unquantized checkpoint, it is quantized while loading, got "gptq"',
    ])
  })

  it('refuses what is not a configuration, naming the file', () => {
    const known = 'model_type must be one of llama, mistral, qwen2, qwen3'
    expect(() => parseModelConfig([1], '/m/config.json')).toThrow('/m/config.json: must be a JSON object')
    expect(() => parseModelConfig({}, '/m/config.json')).toThrow(`/m/config.json: ${known}, got nothing`)
    expect(() => parseModelConfig({ model_type: 'gpt2' })).toThrow(`config.json: ${known}, got "gpt2"`)
  })

  it('gives an error that says it is the user who can act', () => {
    const error = (() => {
      try {
        return parseModelConfig({ model_type: 'mistral', vocab_size: 0 }, 'x')
      } catch (thrown) {
        return thrown
      }
    })()
    expect(error).toMatchObject({ code: 'MIRASTRAL_MODELS', kind: 'config', exitCode: 2, retryable: false })
    expect(error).toHaveProperty('message', 'x: vocab_size: must be a whole number from 1 to 16777216, got 0')
  })

  it('reads biases and query-key norms where the architecture has them', () => {
    const of = (json: Record<string, unknown>) => {
      const { attentionBias, attentionOutputBias, mlpBias, qkNorm } = parseModelConfig(json)
      return { attentionBias, attentionOutputBias, mlpBias, qkNorm }
    }
    const keys = { attention_bias: true, mlp_bias: true }
    const all = { attentionBias: true, attentionOutputBias: true, mlpBias: true, qkNorm: false }
    expect(of({ model_type: 'llama', ...keys })).toEqual(all)
    const none = { attentionBias: false, attentionOutputBias: false, mlpBias: false, qkNorm: false }
    expect(of({ model_type: 'mistral', ...keys })).toEqual(none)
    expect(of({ model_type: 'qwen2' })).toEqual({ ...none, attentionBias: true })
    expect(of({ model_type: 'qwen3', ...keys })).toEqual({ ...all, mlpBias: false, qkNorm: true })
  })

  it('reads both spellings of the dtype, and a list of end tokens', () => {
    expect(parseModelConfig({ model_type: 'llama', torch_dtype: 'torch.bfloat16' }).dtype).toBe('bfloat16')
    expect(parseModelConfig({ model_type: 'llama', dtype: 'float16' }).dtype).toBe('float16')
    expect(parseModelConfig({ model_type: 'llama' }).dtype).toBeNull()
    expect(parseModelConfig({ model_type: 'llama', eos_token_id: [2, 7] }).eosTokenIds).toEqual([2, 7])
    expect(parseModelConfig({ model_type: 'llama', eos_token_id: null }).eosTokenIds).toEqual([])
  })

  it('reads what bitsandbytes writes, with its surprising default', () => {
    const of = (quantization_config: unknown) =>
      parseModelConfig({ model_type: 'llama', quantization_config }).quantization
    const base = { quant_method: 'bitsandbytes', load_in_4bit: true }
    expect(of({ ...base, bnb_4bit_quant_type: 'nf4', bnb_4bit_use_double_quant: true })).toEqual({
      quantMethod: 'bitsandbytes',
      quantType: 'nf4',
      doubleQuant: true,
      skipModules: [],
    })
    expect(of(base)).toMatchObject({ quantType: 'fp4', doubleQuant: false })
    expect(of(null)).toBeNull()
    expect(problemsOf({ model_type: 'llama', quantization_config: { ...base, load_in_4bit: false } })).toEqual([
      'quantization_config.load_in_4bit: only 4-bit bitsandbytes checkpoints are supported; use the unquantized checkpoint, got false',
    ])
    expect(problemsOf({ model_type: 'llama', quantization_config: 4 })).toEqual([
      'quantization_config: must be an object',
    ])
  })

  it('warns of what it will not do', () => {
    expect(parseModelConfig({ model_type: 'llama', attention_dropout: 0.1 }).warnings).toEqual([
      'attention_dropout 0.1 is not applied; only LoRA dropout is',
    ])
    expect(parseModelConfig({ model_type: 'mistral', layer_types: ['full_attention'] }).warnings).toHaveLength(1)
    expect(parseModelConfig({ model_type: 'mistral' }).warnings).toEqual([])
  })

  it('answers any JSON with a configuration or a ModelError', () => {
    const keys = ['hidden_size', 'num_attention_heads', 'head_dim', 'rope_scaling', 'rope_parameters', 'rope_theta']
    const more = ['layer_types', 'quantization_config', 'eos_token_id', 'sliding_window', 'use_sliding_window', 'dtype']
    const values = fc.oneof(
      fc.jsonValue(),
      fc.constantFrom(true, 2, 64, 'yarn', { type: 'yarn' }, { rope_type: 'llama3' }),
    )
    const types = fc.constantFrom('llama', 'mistral', 'qwen2', 'qwen3')
    const objects = fc.dictionary(fc.constantFrom(...keys, ...more), values, { maxKeys: 6 })
    fc.assert(
      fc.property(types, objects, (model_type, json) => {
        const problems = problemsOf({ model_type, num_hidden_layers: 2, ...json })
        expect(problems.every((problem) => problem.length > 0 && !problem.includes('\n'))).toBe(true)
      }),
      { numRuns: 400 },
    )
  })

  it('checks the layer types of a model that mixes windows', () => {
    const base = { model_type: 'qwen3', num_hidden_layers: 2 }
    expect(problemsOf({ ...base, layer_types: ['sliding_attention'] })).toEqual([
      'layer_types: must have num_hidden_layers = 2 entries, got 1',
      'layer_types: sliding_attention needs use_sliding_window true and a sliding_window',
    ])
    expect(problemsOf({ ...base, layer_types: ['full_attention', 'linear_attention'] })).toEqual([
      'layer_types.1: must be full_attention or sliding_attention, got "linear_attention"',
    ])
  })
})
