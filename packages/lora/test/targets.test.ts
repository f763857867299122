import { describe, expect, it } from 'vitest'
import { adapterTensors, parseLoraConfig, planLora } from '@mirastral/lora'
import type { LoraOptions, LoraPlan } from '@mirastral/lora'
import { caught, readJson } from './fixtures.js'
import type { ConfigGoldens } from './fixtures.js'

const goldens = readJson<ConfigGoldens>('configs.json')
const plan = (options: LoraOptions): LoraPlan => planLora(parseLoraConfig(options), goldens.models.llama)

describe('the plan of an adapter', () => {
  it.each(goldens.cases)('of "$name" adapts what PEFT adapts, with its ranks and scales', (golden) => {
    const { layers } = planLora(parseLoraConfig(golden.options), goldens.models[golden.model])
    const rows = layers.map((l) => [l.module, [l.rank, l.alpha, l.scaling]] as const)
    expect(Object.fromEntries(rows)).toEqual(golden.layers)
  })

  it.each(goldens.cases)('of "$name" has the tensors that PEFT saves', (golden) => {
    const tensors = adapterTensors(planLora(parseLoraConfig(golden.options), goldens.models[golden.model]))
    expect(Object.fromEntries(tensors)).toEqual(golden.tensors)
  })

  it('resolves all-linear to full names where suffixes would select more', () => {
    const modules = [
      { name: 'a.proj', kind: 'linear', shape: [4, 4] },
      { name: 'b.proj', kind: 'embedding', shape: [4, 4] },
    ] as const
    expect(planLora(parseLoraConfig({ targetModules: 'all-linear' }), modules).config.targetModules).toEqual(['a.proj'])
  })

  it('warns of names that select nothing while others do', () => {
    expect(plan({ targetModules: ['q_proj', 'query', 'c_attn'] }).warnings).toEqual([
      'targetModules: no module of this model is named query, c_attn',
    ])
  })

  it('refuses targets that select nothing, and modules that do not exist', async () => {
    const error = await caught(() => plan({ targetModules: ['query'], modulesToSave: ['classifier'] }))
    expect(error).toMatchObject({ code: 'MIRASTRAL_LORA_TARGET', exitCode: 2 })
    expect(error.message.split('\n')).toEqual([
      'LoRA targets, 2 problems:',
      '  - modulesToSave: no module is named classifier',
      '  - targetModules: [query] selects no module of this model',
    ])
  })

  it('refuses to put a low-rank adapter on anything but a linear layer', async () => {
    const error = await caught(() => plan({ targetModules: ['embed_tokens'] }))
    expect(error.message).toMatch(/^LoRA targets: targetModules: model.embed_tokens is not a linear layer; /)
  })

  it('refuses rank patterns whose order would change when PEFT sorts them', async () => {
    const error = await caught(() => plan({ rankPattern: { q_proj: 4, '.*layers.0.*': 2 } }))
    expect(error.message).toMatch(
      /rankPattern: "q_proj" and ".\*layers.0.\*" both match model.layers.0.self_attn.q_proj/,
    )
    expect(plan({ rankPattern: { '.*layers.0.*': 2, q_proj: 4 } }).layers.map((l) => l.rank)).toEqual([
      2, 2, 4, 8, 4, 8,
    ])
  })

  it('refuses a rank beyond the layer for initialisations that take directions from it', async () => {
    const error = await caught(() => plan({ r: 9, initLoraWeights: 'olora', targetModules: ['k_proj'] }))
    expect(error.message).toContain('r: 9 is more than the 8 that model.layers.0.self_attn.k_proj has')
  })
})
