import { describe, expect, it } from 'vitest'
import { formatAdapterConfig, parseAdapterConfig, parseLoraConfig, planLora } from '@mirastral/lora'
import { caught, readJson } from './fixtures.js'
import type { ConfigGoldens } from './fixtures.js'

const goldens = readJson<ConfigGoldens>('configs.json')

describe('adapter_config.json', () => {
  it.each(goldens.cases)('of "$name" is written byte for byte as PEFT writes it', ({ model, options, text }) => {
    const config = parseLoraConfig({ ...options, baseModelNameOrPath: 'owner/tiny' })
    const plan = planLora(config, goldens.models[model])
    expect(formatAdapterConfig(plan.config)).toBe(text)
  })

  it.each(goldens.cases)('of "$name" is read back without loss', ({ text }) => {
    const { config, warnings } = parseAdapterConfig(text)
    expect(formatAdapterConfig(config)).toBe(text)
    expect(warnings).toEqual([])
  })

  it('drops keys that are not known, with a warning that names them', () => {
    const text = JSON.stringify({ peft_type: 'LORA', r: 4, shiny: 1, runtime_config: {}, brand_new: null })
    const { config, warnings } = parseAdapterConfig(text)
    expect(config).toEqual(parseLoraConfig({ r: 4, taskType: null }))
    expect(warnings).toEqual(['adapter_config.json: ignores the unknown keys shiny, brand_new'])
  })

  it('refuses every feature that is not supported, by name and all at once', async () => {
    const error = await caught(() =>
      parseAdapterConfig(
        JSON.stringify({
          peft_type: 'IA3',
          r: 0,
          lora_alpha: 'high',
          use_qalora: true,
          layer_replication: [[0, 1]],
          trainable_token_indices: [1],
          bias: 'all',
          init_lora_weights: 'loftq',
        }),
      ),
    )
    expect(error).toMatchObject({ name: 'LoraError', code: 'MIRASTRAL_LORA_CONFIG', exitCode: 2 })
    expect(error.message.split('\n')).toEqual([
      'adapter_config.json, 8 problems:',
      '  - peft_type: must be "LORA", got "IA3"',
      '  - layer_replication: is used by this adapter and is not supported',
      '  - trainable_token_indices: is used by this adapter and is not supported',
      '  - use_qalora: is used by this adapter and is not supported',
      '  - r: must be at least 1',
      '  - loraAlpha: must be a number',
      '  - bias: must be "none": training the biases of the base model is not supported',
      '  - initLoraWeights: "loftq" is an initialisation that is not supported; use true, "gaussian", "pissa", "olora" or "orthogonal"',
    ])
  })

  it('accepts adapters whose initialisation left the base model alone', () => {
    const text = JSON.stringify({ peft_type: 'LORA', init_lora_weights: 'eva', eva_config: null })
    expect(parseAdapterConfig(text).config.initLoraWeights).toBe(true)
  })

  it.each([
    ['not json', 'my.json: is not valid JSON'],
    ['[1]', 'my.json: must hold a JSON object'],
    ['{"r": 8}', 'my.json: peft_type: must be "LORA", got nothing'],
  ])('%s is refused in one line', async (text, message) => {
    expect((await caught(() => parseAdapterConfig(text, 'my.json'))).message).toBe(message)
  })
})

describe('LoRA options', () => {
  it('have the defaults of PEFT', () => {
    expect(parseLoraConfig({})).toEqual({
      r: 8,
      loraAlpha: 8,
      loraDropout: 0,
      targetModules: null,
      excludeModules: null,
      bias: 'none',
      useRslora: false,
      useDora: false,
      loraBias: false,
      modulesToSave: null,
      rankPattern: {},
      alphaPattern: {},
      layersToTransform: null,
      layersPattern: null,
      initLoraWeights: true,
      baseModelNameOrPath: null,
      revision: null,
      taskType: 'CAUSAL_LM',
    })
  })

  it.each([
    [{ r: 1.5 }, 'LoRA options: r: must be a whole number'],
    [{ alpha: 16 }, 'LoRA options: alpha: unknown option, did you mean loraAlpha'],
    [{ target_modules: ['q_proj'] }, 'LoRA options: target_modules: unknown option, did you mean targetModules'],
    [{ loraDropout: 1 }, 'LoRA options: loraDropout: must be below 1'],
    [{ targetModules: 'x', layersToTransform: 1 }, /layersToTransform: works only with a list/],
    [{ layersPattern: 'layers' }, /layersPattern: needs layersToTransform/],
    [{ loraBias: true, useDora: true }, /loraBias: cannot be combined with useDora/],
    [{ loraBias: true, initLoraWeights: 'gaussian' }, /loraBias: works with initLoraWeights true or false/],
    [{ initLoraWeights: 'orthogonal', r: 4, rankPattern: { q_proj: 3 } }, /"orthogonal" needs even ranks, got 3/],
    [{ initLoraWeights: 'pissa', useDora: true }, /"pissa" cannot be combined with useDora/],
    [{ initLoraWeights: 'eva' }, /"eva" is an initialisation that is not supported/],
    [{ rankPattern: { q_proj: 0 } }, 'LoRA options: rankPattern.q_proj: must be at least 1'],
    [{ modulesToSave: [] }, /modulesToSave: is an empty list/],
    ['r=8', /the configuration: /],
  ])('%j is refused', async (options, message) => {
    const error = await caught(() => parseLoraConfig(options))
    expect(error).toMatchObject({ code: 'MIRASTRAL_LORA_CONFIG', exitCode: 2 })
    expect(error.message).toMatch(message)
  })

  it('name every problem at once', async () => {
    const error = await caught(() => parseLoraConfig({ r: 0, loraAlpha: -1, useDora: 'yes', rank: 4 }))
    expect(error.message.split('\n')).toHaveLength(5)
    expect(error.message).toMatch(/^LoRA options, 4 problems:\n {2}- r: /)
  })
})
