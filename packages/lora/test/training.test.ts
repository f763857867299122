import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { MicroBatch, TinyModel, TrainingGolden } from './tiny-training.js'
import { HostAdamw, openTinyModel, readBatches, readGolden } from './tiny-training.js'
import { expectClose } from './close.js'

const cases = [
  { model: 'llama', name: 'attention', nf4: false },
  { model: 'llama', name: 'all-linear', nf4: false },
  { model: 'llama', name: 'dora', nf4: false },
  { model: 'llama', name: 'attention-nf4', nf4: true },
  { model: 'llama', name: 'dora-nf4', nf4: true },
  { model: 'llama', name: 'modules', nf4: false },
  { model: 'llama', name: 'pissa', nf4: false },
  { model: 'mistral', name: 'attention', nf4: false },
  { model: 'mistral', name: 'all-linear-nf4', nf4: true },
]

describe.each(cases)('the adapter "$name" of the tiny $model', ({ model, name, nf4 }) => {
  let golden: TrainingGolden
  let batches: MicroBatch[]
  let tiny: TinyModel

  beforeAll(async () => {
    golden = await readGolden(model, name)
    batches = await readBatches(model)
    const subtracted = golden.group('initial')
    tiny = await openTinyModel(model, name, {
      quantization: nf4 ? 'nf4' : 'none',
      ...(subtracted.size > 0 ? { subtracted: { init: 'pissa', tensors: subtracted } } : {}),
    })
  })

  afterAll(() => tiny.dispose())

  it('gives the logits of PEFT', async () => {
    const [batch] = batches
    const vocabulary = 96
    const logits = await tiny.logits(batch)
    const real = [...batch.mask.keys()].filter((row) => batch.mask[row] === 1)
    const rows = real.flatMap((row) => [...logits.subarray(row * vocabulary, (row + 1) * vocabulary)])
    expectClose('logits', rows, golden.logits, 1e-4)
  })

  it('has the loss and every gradient of PyTorch', async () => {
    const [batch] = batches
    const { lossSum, gradients } = await tiny.gradients(batch)
    expect(Math.abs(lossSum / batch.tokens / golden.loss - 1)).toBeLessThan(1e-5)
    const expected = golden.group('grad')
    expect([...gradients.keys()].sort()).toEqual([...expected.keys()].sort())
    for (const [key, gradient] of gradients) {
      const scaled = gradient.map((value) => value / batch.tokens)
      expectClose(key, scaled, expected.get(key)?.data ?? [], 1e-4)
    }
  })

  it('follows the loss curve of ten AdamW steps to the same adapter', async () => {
    const parameters = new Map([...tiny.adapter.tensors].map(([key, { data }]) => [key, data.slice()]))
    const optimizer = new HostAdamw(0.01)
    for (let step = 0; step < 10; step++) {
      const pair = batches.slice(2 * step, 2 * step + 2)
      const tokens = pair.reduce((n, batch) => n + batch.tokens, 0)
      const total = new Map([...parameters].map(([key, p]) => [key, new Float32Array(p.length)]))
      let lossSum = 0
      for (const batch of pair) {
        const result = await tiny.gradients(batch)
        lossSum += result.lossSum
        for (const [key, g] of result.gradients) {
          const sum = total.get(key) ?? g
          g.forEach((value, i) => (sum[i] += value / tokens))
        }
      }
      const norm = Math.sqrt([...total.values()].reduce((n, g) => n + g.reduce((s, x) => s + x * x, 0), 0))
      const factor = Math.min(1, 1 / (norm + 1e-6))
      const clipped = new Map([...total].map(([key, g]) => [key, g.map((x) => x * factor)]))
      expect(Math.abs(lossSum / tokens / golden.losses[step] - 1)).toBeLessThan(1e-5)
      expect(Math.abs(norm / golden.gradNorms[step] - 1)).toBeLessThan(1e-4)
      optimizer.update(parameters, clipped, golden.learningRates[step])
      for (const [key, p] of parameters) await tiny.bind(key, p)
    }
    for (const [key, { data }] of golden.group('final')) {
      expectClose(key, parameters.get(key) ?? [], data, 1e-4)
    }
  })
})
