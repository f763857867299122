import { describe, expect, it } from 'vitest'
import { formatModelCard, parseEvidence, parseLoraConfig } from '@mirastral/lora'
import { evidence } from './evidence.js'
import { caught } from './fixtures.js'

const config = parseLoraConfig({ r: 16, loraAlpha: 32, targetModules: ['q_proj', 'v_proj'], useRslora: true })
const card = formatModelCard({ repo: 'me/helper', evidence, config })

describe('a model card', () => {
  it('begins with metadata that the Hub knows', () => {
    expect(card.split('\n').slice(0, 24)).toEqual([
      '---',
      'base_model: mistralai/Mistral-7B-Instruct-v0.3',
      'base_model_relation: adapter',
      'language:',
      '- en',
      '- "no"',
      'library_name: peft',
      'license: apache-2.0',
      'pipeline_tag: text-generation',
      'tags:',
      '- "base_model:adapter:mistralai/Mistral-7B-Instruct-v0.3"',
      '- lora',
      '- mental-health',
      '- mirastral',
      '- qlora',
      '- transformers',
      '---',
      '',
      '# A listening helper',
      '',
      'A LoRA adapter for supportive conversations. It was fine-tuned from mistralai/Mistral-7B-Instruct-v0.3 with MiraStral.',
      '',
      '## In a crisis',
      '',
    ])
  })

  it.each([
    '| Rank, alpha, dropout | 16, 32, 0 |',
    '| Adapter | LoRA, rank-stabilised |',
    '| Quantization of the base model while training | NF4, blocks of 64, double quantization |',
    '| Revision of the base model | e0bc86c2 |',
    '| Trainable parameters | 13,631,488 (0.188 %) in 128 modules |',
    '| Tokens that carry loss (assistant turns) | 4,500 (37.5 %) |',
    '| Records left out: no assistant turn | 2 |',
    `| ${'a'.repeat(64)} | 40 | 38 |`,
    '| learningRate | 0.00002 |',
    '| note | a \\| b |',
    '| adamBetas | 0.9, 0.999 |',
    '| maxSteps | null |',
    '| Last evaluation loss | 2.0986 |',
    '| Perplexity | 8.1547 |',
    '| Token accuracy | 48.7 % |',
    '| Weights are those of step | 40 |',
    '| Time | 1 h 2 min |',
    '| Peak memory | 5.40 GB |',
    '| 2 | 31 to 45 | 20 min 25 s | finished |',
    'The run was resumed 1 time.',
    '- Norway: 116 123',
    'This model is not a crisis service.',
    'model = PeftModel.from_pretrained(base, "me/helper")',
  ])('says "%s"', (line) => {
    expect(card).toContain(line)
  })

  it('of a run on pairs speaks of pairs', () => {
    const pairs = { ...evidence, data: { ...evidence.data, kind: 'pairs' as const } }
    const text = formatModelCard({ repo: 'me/helper', evidence: pairs, config })
    expect(text).toContain('- dpo\n')
    expect(text).toContain('| Pairs of a chosen and a rejected answer trained on | 57 |')
    expect(text).toContain('| Pairs ranked rightly | 48.7 % |')
    expect(text).not.toContain('Perplexity')
  })

  it('has no line for what did not happen', () => {
    expect(card).not.toContain('broken JSON')
  })

  it('thins long curves to their first and last points', () => {
    const curve = card.slice(card.indexOf('### Training loss'), card.indexOf('### Evaluation loss'))
    const rows = curve.split('\n').filter((line) => /^\| \d/.test(line))
    expect(rows).toHaveLength(16)
    expect([rows[0], rows[15]]).toEqual(['| 1 | 3 |', '| 45 | 1.5333 |'])
  })

  it('keeps paths of the machine to itself', () => {
    const baseModel = { ...evidence.baseModel, id: '/home/ada/models/tiny' }
    const hyperparameters = { data: ['/home/ada/worker1', './worker2'], out: 'C:\\Users\\ada\\run' }
    const local = formatModelCard({ repo: 'me/helper', evidence: { ...evidence, baseModel, hyperparameters }, config })
    expect(local).not.toContain('/home')
    expect(local).toContain('| Base model | tiny |')
    expect(local).toContain('| data | worker1, worker2 |')
    expect(local).toContain('| out | run |')
    expect(local).not.toContain('base_model:')
  })

  it('can be written for a run that was short and is not quantized', () => {
    const results = { steps: 0, epochs: 0, trainLoss: [] }
    const segments = [{ firstStep: 0, lastStep: 0, seconds: 3.21, endedBy: 'SIGTERM' }]
    const performance = { seconds: 3.21, tokensPerSecond: 0, secondsPerStep: 0 }
    const short = formatModelCard({
      repo: 'me/x',
      evidence: { ...evidence, quantization: null, results, segments, performance },
      config,
    })
    expect(short).toContain('| Quantization of the base model while training | none |')
    expect(short).toContain('The run was not interrupted.')
    expect(short).not.toMatch(/NaN|undefined/)
    expect(short).not.toContain('qlora')
  })

  it('is refused with incomplete evidence, every gap named', async () => {
    const broken = {
      ...evidence,
      segments: [],
      data: { ...evidence.data, tokens: -1, files: [{ sha256: 'x', records: 1, used: 1 }] },
    }
    const error = await caught(() => parseEvidence(broken))
    expect(error).toMatchObject({ code: 'MIRASTRAL_LORA_PUBLISH', exitCode: 2 })
    expect(error.message).toContain('model card, 3 problems')
    expect(error.message).toContain('data.files.0.sha256: must be 64 hexadecimal digits')
  })
})
