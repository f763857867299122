import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Batch } from '@mirastral/data'
import type { LoraOptions } from '@mirastral/lora'
import { readFloat32, SafetensorsFile } from '@mirastral/safetensors'
import type { TrainingOptionsInput } from '@mirastral/trainer'
import { batchesOf, rowsOf, train } from '@mirastral/trainer'
import { describe, expect, it } from 'vitest'
import { readLines, temporaryFolder } from './support/runs.js'
import { identity } from './support/task.js'
import { tinySaveAdapter, tinyStep } from './support/tiny-model.js'

interface Golden {
  rows: { input_ids: number[]; labels: number[] }[]
  initial: Record<string, { shape: number[]; data: number[] }>
  history: { loss: number; grad_norm: number; learning_rate: number; epoch: number }[]
  final: Record<string, { shape: number[]; data: number[] }>
}

const goldens = JSON.parse(
  readFileSync(new URL('../../../fixtures/trainer/trainer-variants.json', import.meta.url), 'utf8'),
) as Record<string, Golden>

/** The cases of make_variant_goldens.py in our words. */
const cases: Record<string, { lora: LoraOptions; options: TrainingOptionsInput }> = {
  'rsLoRA and DoRA, cosine with a tenth of warm-up': {
    lora: { r: 4, loraAlpha: 6, useRslora: true, useDora: true, targetModules: ['q_proj', 'v_proj', 'down_proj'] },
    options: { learningRate: 0.01, lrSchedulerType: 'cosine', warmupRatio: 0.1, gradientAccumulationSteps: 3 },
  },
  'rank and alpha patterns, weight decay, tight clipping': {
    lora: {
      r: 4,
      loraAlpha: 8,
      targetModules: 'all-linear',
      rankPattern: { v_proj: 2, 'layers.1.mlp.down_proj': 6 },
      alphaPattern: { q_proj: 3 },
    },
    options: { learningRate: 0.01, weightDecay: 0.1, maxGradNorm: 0.3, gradientAccumulationSteps: 2 },
  },
  'modules in full, label smoothing, constant after warm-up': {
    lora: { r: 2, loraAlpha: 4, targetModules: ['q_proj'], modulesToSave: ['lm_head', 'norm'] },
    options: {
      learningRate: 0.005,
      lrSchedulerType: 'constantWithWarmup',
      warmupSteps: 3,
      gradientAccumulationSteps: 4,
      labelSmoothingFactor: 0.1,
    },
  },
  'DoRA with modules in full, one micro-batch a step': {
    lora: { r: 3, loraAlpha: 5, useDora: true, targetModules: ['o_proj', 'up_proj'], modulesToSave: ['embed_tokens'] },
    options: { learningRate: 0.01, adamBeta1: 0.8, adamBeta2: 0.95, adamEpsilon: 1e-6, gradientAccumulationSteps: 1 },
  },
  'LoRA+ and DoRA, weight decay': {
    lora: { r: 4, loraAlpha: 8, useDora: true, targetModules: ['k_proj', 'gate_proj'] },
    options: {
      learningRate: 0.002,
      lrSchedulerType: 'cosine',
      gradientAccumulationSteps: 2,
      loraplusLrRatio: 8,
      weightDecay: 0.05,
    },
  },
}

async function run(name: string, mergeMicroBatches: boolean): Promise<string> {
  const folder = await temporaryFolder()
  const { rows, initial } = goldens[name]
  const { lora, options: own } = cases[name]
  const options = {
    ...own,
    maxSteps: 12,
    perDeviceTrainBatchSize: 2,
    maxLength: 16,
    budgetMinutes: null,
    tensorboard: false,
    mergeMicroBatches,
  }
  const adapterTensors = new Map(
    Object.entries(initial).map(([key, { shape, data }]) => [key, { shape, data: Float32Array.from(data) }]),
  )
  const examples = rows.map(({ input_ids, labels }) => ({
    inputIds: Int32Array.from(input_ids),
    labels: Int32Array.from(labels),
  }))
  await train<Batch>({
    outputDir: folder,
    identity,
    step: () => tinyStep({ lora, options, quantization: 'none', adapterTensors }),
    data: { train: batchesOf(rowsOf(examples), { batchSize: 2, padTokenId: 0, sequenceLength: [8, 16], seed: 42 }) },
    saveAdapter: tinySaveAdapter(lora),
    handleSignals: false,
    options,
  })
  return folder
}

describe.each(Object.keys(cases))("the Trainer with PEFT's %s", (name) => {
  it.each([
    ['', false],
    [', micro-batches merged', true],
  ])('gives these losses, norms, rates and weights%s', async (_title, merge) => {
    const folder = await run(name, merge)
    const { history, final } = goldens[name]
    const lines = await readLines(folder, 'train.jsonl')
    expect(lines).toHaveLength(history.length)
    lines.forEach((line, i) => {
      const expected = history[i]
      expect(line.epoch).toBeCloseTo(expected.epoch, 12)
      expect(line.learningRate).toBeCloseTo(expected.learning_rate, 14)
      expect(Math.abs(Number(line.loss) / expected.loss - 1), `loss of step ${i + 1}`).toBeLessThan(1e-4)
      expect(Math.abs(Number(line.gradNorm) / expected.grad_norm - 1), `norm of step ${i + 1}`).toBeLessThan(1e-3)
    })
    const file = await SafetensorsFile.open(join(folder, 'final_model', 'adapter_model.safetensors'))
    expect([...file.tensors.keys()].sort()).toEqual(Object.keys(final).sort())
    for (const [key, { data }] of Object.entries(final)) {
      const ours = await readFloat32(file, key)
      const largest = data.reduce((max, value) => Math.max(max, Math.abs(value)), 0)
      const worst = data.reduce((max, value, i) => Math.max(max, Math.abs(ours[i] - value)), 0)
      expect(worst / largest, key).toBeLessThan(1e-3)
    }
    await file.close()
  })
})
