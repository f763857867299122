import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Batch } from '@mirastral/data'
import { readFloat32, SafetensorsFile } from '@mirastral/safetensors'
import type { TrainingOptionsInput } from '@mirastral/trainer'
import { batchesOf, rowsOf, train } from '@mirastral/trainer'
import { describe, expect, it } from 'vitest'
import { BigramStep } from './support/bigram-step.js'
import { readLines, temporaryFolder } from './support/runs.js'
import { identity, saveAdapter } from './support/task.js'

interface Golden {
  vocabSize: number
  hiddenSize: number
  rank: number
  scale: number
  embedding: number[]
  head: number[]
  adapter: Record<string, number[]>
  rows: { input_ids: number[]; labels: number[] }[]
  microBatches: number[][][]
  history: { loss: number; grad_norm: number; learning_rate: number; epoch: number; step: number }[]
  trainLoss: number
  finalAdapter: Record<string, number[]>
  finalMoments: Record<string, { m: number[]; v: number[] }>
}

const readGolden = (name: string): Golden =>
  JSON.parse(readFileSync(new URL(`../../../fixtures/trainer/${name}`, import.meta.url), 'utf8')) as Golden

const keyA = 'base_model.model.lm_head.lora_A.weight'
const keyB = 'base_model.model.lm_head.lora_B.weight'

const cases: { golden: string; options: TrainingOptionsInput }[] = [
  { golden: 'trainer-linear.json', options: { learningRate: 0.02, warmupSteps: 5 } },
  {
    golden: 'trainer-cosine.json',
    options: { learningRate: 0.05, weightDecay: 0.1, maxGradNorm: 0.2, lrSchedulerType: 'cosine' },
  },
]

function expectClose(actual: ArrayLike<number>, expected: readonly number[], what: string): void {
  expect(actual.length).toBe(expected.length)
  const largest = Math.max(...expected.map(Math.abs))
  for (let i = 0; i < expected.length; i++) {
    const error = Math.abs(actual[i] - expected[i])
    expect(error, `${what}[${i}]: ${actual[i]} and ${expected[i]}`).toBeLessThanOrEqual(1e-5 * largest)
  }
}

const readTensors = async (path: string): Promise<Map<string, Float32Array>> => {
  const file = await SafetensorsFile.open(path)
  const tensors = new Map<string, Float32Array>()
  for (const name of file.tensors.keys()) tensors.set(name, await readFloat32(file, name))
  await file.close()
  return tensors
}

describe('parity with the Hugging Face Trainer and PEFT', () => {
  it.each(cases)('50 steps over unequal lengths with accumulation: $golden', async ({ golden: name, options }) => {
    const golden = readGolden(name)
    const folder = await temporaryFolder()
    const rows = golden.rows.map(({ input_ids, labels }) => ({
      inputIds: Int32Array.from(input_ids),
      labels: Int32Array.from(labels),
    }))
    const batches = batchesOf(rowsOf(rows), { batchSize: 2, padTokenId: 0, sequenceLength: 12, seed: 42 })
    const seen: Int32Array[] = []
    const step = new BigramStep({
      ...golden,
      embedding: Float32Array.from(golden.embedding),
      head: Float32Array.from(golden.head),
      loraA: Float32Array.from(golden.adapter[keyA]),
      loraB: Float32Array.from(golden.adapter[keyB]),
      weightDecay: options.weightDecay ?? 0,
      maxGradNorm: options.maxGradNorm ?? 1,
    })
    const result = await train<Batch>({
      outputDir: folder,
      identity,
      step,
      saveAdapter,
      handleSignals: false,
      data: {
        train: {
          ...batches,
          get: async (epoch, index) => {
            const batch = await batches.get(epoch, index)
            seen.push(batch.inputIds)
            return batch
          },
        },
      },
      options: {
        ...options,
        perDeviceTrainBatchSize: 2,
        gradientAccumulationSteps: 3,
        maxSteps: 50,
        budgetMinutes: null,
      },
    })
    expect(result.status).toBe('finished')

    golden.microBatches.forEach((expected, i) => {
      const padded = expected.flatMap((row) => [...row, ...new Array<number>(12 - row.length).fill(0)])
      expect([...seen[i]], `micro-batch ${i}`).toEqual(padded)
    })
    const history = await readLines(folder, 'train.jsonl')
    expect(history.length).toBe(50)
    history.forEach((record, i) => {
      const expected = golden.history[i]
      expect(record.step).toBe(expected.step)
      expect(record.epoch).toBeCloseTo(expected.epoch, 12)
      expect(record.learningRate).toBeCloseTo(expected.learning_rate, 15)
      expectClose([record.loss as number], [expected.loss], `loss of step ${i}`)
      expectClose([record.gradNorm as number], [expected.grad_norm], `gradient norm of step ${i}`)
    })
    expectClose([result.trainLoss ?? NaN], [golden.trainLoss], 'train loss')

    const adapter = await readTensors(join(folder, 'final_model', 'adapter_model.safetensors'))
    const moments = await readTensors(join(folder, 'results', 'checkpoint-50', 'optimizer.safetensors'))
    for (const key of [keyA, keyB]) {
      expectClose(adapter.get(key) ?? [], golden.finalAdapter[key], key)
      expectClose(moments.get(`moments/m/${key}`) ?? [], golden.finalMoments[key].m, `first moment of ${key}`)
      expectClose(moments.get(`moments/v/${key}`) ?? [], golden.finalMoments[key].v, `second moment of ${key}`)
    }
  })
})
