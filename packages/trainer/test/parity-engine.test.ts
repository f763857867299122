import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Batch } from '@mirastral/data'
import { readFloat32, SafetensorsFile } from '@mirastral/safetensors'
import { batchesOf, rowsOf, train } from '@mirastral/trainer'
import { expect, it } from 'vitest'
import { readLines, temporaryFolder } from './support/runs.js'
import { identity } from './support/task.js'
import { tinySaveAdapter, tinyStep } from './support/tiny-model.js'

interface Tensor {
  shape: number[]
  data: number[]
}

interface Golden {
  rows: { input_ids: number[]; labels: number[] }[]
  initial: Record<string, Tensor>
  history: { loss: number; grad_norm: number; learning_rate: number; epoch: number; step: number }[]
  final: Record<string, Tensor>
}

const golden = JSON.parse(
  readFileSync(new URL('../../../fixtures/trainer/trainer-llama.json', import.meta.url), 'utf8'),
) as Golden

const lora = { r: 4, loraAlpha: 8, targetModules: ['q_proj', 'v_proj', 'down_proj'] }
const options = {
  learningRate: 0.01,
  warmupRatio: 0.1,
  weightDecay: 0.05,
  lrSchedulerType: 'cosine' as const,
  maxSteps: 50,
  perDeviceTrainBatchSize: 2,
  gradientAccumulationSteps: 2,
  maxLength: 16,
  budgetMinutes: null,
  tensorboard: false,
}

it('a Llama on the engine equals the Hugging Face Trainer with PEFT for 50 steps: loss, norm, rate, adapter', async () => {
  const folder = await temporaryFolder()
  const rows = golden.rows.map((row) => ({
    inputIds: Int32Array.from(row.input_ids),
    labels: Int32Array.from(row.labels),
  }))
  const adapterTensors = new Map(
    Object.entries(golden.initial).map(([key, { shape, data }]) => [key, { shape, data: Float32Array.from(data) }]),
  )
  await train<Batch>({
    outputDir: folder,
    identity,
    step: () => tinyStep({ lora, options, quantization: 'none', adapterTensors }),
    data: {
      train: batchesOf(rowsOf(rows), { batchSize: 2, padTokenId: 0, sequenceLength: [8, 16], seed: 42 }),
    },
    saveAdapter: tinySaveAdapter(lora),
    handleSignals: false,
    options,
  })
  const lines = await readLines(folder, 'train.jsonl')
  expect(lines).toHaveLength(50)
  lines.forEach((line, i) => {
    const expected = golden.history[i]
    expect(line.epoch).toBeCloseTo(expected.epoch, 12)
    expect(line.learningRate).toBeCloseTo(expected.learning_rate, 14)
    expect(Math.abs(Number(line.loss) / expected.loss - 1), `loss of step ${i + 1}`).toBeLessThan(1e-4)
    expect(Math.abs(Number(line.gradNorm) / expected.grad_norm - 1), `norm of step ${i + 1}`).toBeLessThan(1e-3)
  })
  const file = await SafetensorsFile.open(join(folder, 'final_model', 'adapter_model.safetensors'))
  for (const [key, { data }] of Object.entries(golden.final)) {
    const ours = await readFloat32(file, key)
    const largest = Math.max(...data.map(Math.abs))
    data.forEach((value, i) => expect(Math.abs(ours[i] - value) / largest, `${key}[${i}]`).toBeLessThan(1e-3))
  }
  await file.close()
})
