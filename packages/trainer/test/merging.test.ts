import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Batch } from '@mirastral/data'
import type { DeviceState, Merging, PreferencePair, TrainerEvent, TrainStep } from '@mirastral/trainer'
import {
  batchesOf,
  createPreferenceStep,
  createTrainStep,
  pairsIn,
  preferenceBatchesOf,
  preferenceLossTypes,
  rowsOf,
} from '@mirastral/trainer'
import { describe, expect, it } from 'vitest'
import { mergingOf } from '../src/merge-batches.js'
import { outcomeOf, readLines, temporaryFolder } from './support/runs.js'
import { tinyRequest, tinyRows, tinyStep } from './support/tiny-model.js'
import { tinyRun } from './support/tiny-run.js'

const lora = { r: 4, loraAlpha: 8, loraDropout: 0.2, targetModules: ['q_proj', 'v_proj', 'down_proj'] }
const options = {
  learningRate: 5e-3,
  numTrainEpochs: 2,
  gradientAccumulationSteps: 4,
  maxLength: 16,
  saveSteps: 2,
  neftuneNoiseAlpha: 5,
  labelSmoothingFactor: 0.1,
  evalStrategy: 'no' as const,
  budgetMinutes: null,
  tensorboard: false,
}

async function withMerging<B>(step: TrainStep<B>): Promise<Merging<B>> {
  if (!step.merging) throw new Error('the step must be able to merge')
  return Promise.resolve(step.merging)
}

/** Fails where an accumulated gradient differs by more than float32 sums in another order do. */
function expectSameGradients(merged: DeviceState, separate: DeviceState): void {
  let largest = 0
  for (const [name, { data }] of separate) {
    if (!name.startsWith('gradients/')) continue
    const size = data.reduce((max, value) => Math.max(max, Math.abs(value)), 0)
    largest = Math.max(largest, size)
    const other = merged.get(name)?.data ?? new Float32Array()
    expect(other.length).toBe(data.length)
    data.forEach((value, i) => expect(Math.abs(other[i] - value), `${name}[${i}]`).toBeLessThan(1e-5 * size + 1e-8))
  }
  expect(largest).toBeGreaterThan(0)
}

async function compare<B>(make: () => Promise<TrainStep<B>>, batches: readonly B[]): Promise<void> {
  const [one, other] = [await make(), await make()]
  const at = batches.map((_, i) => ({ microStep: 7 + i }))
  const sums = { lossSum: 0, tokens: 0 }
  const metrics: Record<string, number> = {}
  for (const [i, batch] of batches.entries()) {
    const result = await one.accumulate(batch, at[i])
    sums.lossSum += result.lossSum
    sums.tokens += result.tokens
    for (const [name, value] of Object.entries(result.metrics ?? {})) metrics[name] = (metrics[name] ?? 0) + value
  }
  const merged = await (await withMerging(other)).accumulate(batches, at)
  expect(merged.tokens).toBe(sums.tokens)
  expect(merged.lossSum / sums.lossSum).toBeCloseTo(1, 6)
  for (const [name, value] of Object.entries(metrics)) expect(merged.metrics?.[name], name).toBeCloseTo(value, 4)
  expectSameGradients(await other.readState(), await one.readState())
  await Promise.all([one.dispose(), other.dispose()])
}

describe('merged micro-batches', () => {
  it.each([1, 2])(
    'of %i rows give the loss and gradients of separate ones, dropout and NEFTune included',
    async (batchSize) => {
      const source = batchesOf(rowsOf(tinyRows(4 * batchSize)), { batchSize, padTokenId: 0, sequenceLength: 16 })
      const batches = await Promise.all([0, 1, 2, 3].map(async (i) => source.get(0, i)))
      await compare(() => tinyStep({ lora, options, quantization: 'nf4' }), batches)
    },
  )

  it.each(preferenceLossTypes)('of pairs do so too: %s', async (dpoLossType) => {
    const pairs = tinyRows(6).map((chosen, i): PreferencePair => ({ chosen, rejected: tinyRows(12)[6 + i] }))
    const references = Float32Array.from({ length: 12 }, (_, i) => -20 - i)
    const source = preferenceBatchesOf(pairsIn(pairs), references, { batchSize: 2, padTokenId: 0, sequenceLength: 16 })
    const batches = await Promise.all([0, 1, 2].map(async (i) => source.get(0, i)))
    const make = async () =>
      createPreferenceStep(
        await tinyRequest({ lora, options: { ...options, dpoLossType, dpoLabelSmoothing: 0.1 }, quantization: 'nf4' }),
      )
    await compare(make, batches)
  })

  it('are the way of GPUs, and of nothing else unless it is asked for', () => {
    expect(mergingOf({ backend: { name: 'cuda' } }).preferred).toBe(true)
    expect(mergingOf({ backend: { name: 'ort' } }).preferred).toBe(false)
  })
})

interface RunChanges {
  readonly merge?: boolean
  readonly stopWhen?: (event: TrainerEvent) => boolean
  readonly wrap?: (step: TrainStep<Batch>, groups: number[]) => TrainStep<Batch>
}

async function run(folder: string, { merge = true, stopWhen, wrap }: RunChanges = {}) {
  const groups: number[] = []
  const all = { ...options, mergeMicroBatches: merge }
  const step = async (): Promise<TrainStep<Batch>> =>
    (wrap ?? counting)(await createTrainStep(await tinyRequest({ lora, options: all, quantization: 'nf4' })), groups)
  const run = await tinyRun(folder, { lora, options: all, trainRows: 11, sequenceLength: [8, 16], step, stopWhen })
  return { ...run, groups }
}

/** Writes down how many micro-batches each call takes. */
function counting(step: TrainStep<Batch>, groups: number[], room = Infinity): TrainStep<Batch> {
  const { merging } = step
  if (!merging) return step
  const accumulate = step.accumulate.bind(step)
  step.accumulate = (...given) => {
    groups.push(1)
    return accumulate(...given)
  }
  const counted: Merging<Batch> = {
    ...merging,
    accumulate: (batches, at) => {
      if (batches.length > room) throw Object.assign(new Error('too large'), { code: 'MIRASTRAL_CUDA_OUT_OF_MEMORY' })
      groups.push(batches.length)
      return merging.accumulate(batches, at)
    },
  }
  return Object.assign(step, { merging: counted })
}

const outcome = async (folder: string): Promise<Record<string, string>> => {
  // These runs evaluate nothing, and outcomeOf reads that log too.
  await writeFile(join(folder, 'results', 'eval.jsonl'), '')
  return outcomeOf(folder, 'checkpoint-6')
}

describe('a run that merges', () => {
  it('logs what a run logs that does not, but for rounding, in fewer calls', async () => {
    const [one, other] = [await temporaryFolder(), await temporaryFolder()]
    const separate = await run(one, { merge: false })
    const merged = await run(other)
    expect(separate.groups).toHaveLength(22)
    expect(merged.groups.reduce((a, b) => a + b, 0)).toBe(22)
    expect(merged.groups.length).toBeLessThan(16)
    const [expected, lines] = [await readLines(one, 'train.jsonl'), await readLines(other, 'train.jsonl')]
    expect(lines).toHaveLength(6)
    lines.forEach((line, i) => {
      expect(line.tokens).toBe(expected[i].tokens)
      expect(Number(line.loss) / Number(expected[i].loss)).toBeCloseTo(1, 4)
      expect(Number(line.gradNorm) / Number(expected[i].gradNorm)).toBeCloseTo(1, 3)
    })
  })

  it('is refused by a step that cannot merge', async () => {
    const wrap = (step: TrainStep<Batch>): TrainStep<Batch> => Object.assign(step, { merging: undefined })
    await expect(run(await temporaryFolder(), { wrap })).rejects.toThrow(
      /^mergeMicroBatches: this training step takes one/,
    )
  })

  it('goes on to the same bits wherever it is stopped, also within a window', async () => {
    const whole = await temporaryFolder()
    await run(whole)
    const expected = await outcome(whole)
    const folder = await temporaryFolder()
    let segments = 0
    let status = ''
    do {
      const stopWhen = (e: TrainerEvent): boolean => e.type === 'progress' || e.type === 'step'
      ;({ status } = (await run(folder, { stopWhen })).result)
      segments++
    } while (status === 'stopped')
    expect(segments).toBeGreaterThan(7)
    expect(await outcome(folder)).toEqual(expected)
  })

  it('merges fewer where the memory is too small, says so, and remembers it in a resumed run', async () => {
    const folder = await temporaryFolder()
    const small = (step: TrainStep<Batch>, groups: number[]): TrainStep<Batch> => counting(step, groups, 2)
    const whole = await temporaryFolder()
    const first = await run(whole, { wrap: small })
    expect(first.result.status).toBe('finished')
    expect(Math.max(...first.groups)).toBe(2)
    expect(first.warnings).toHaveLength(1)
    expect(first.warnings[0]).toMatch(/micro-batches as one are too large for the memory; fewer are merged/)

    await run(folder, { wrap: small, stopWhen: (e) => e.type === 'step' && e.record.step === 3 })
    const rest = await run(folder, { wrap: small })
    expect(rest.warnings).toEqual([])
    expect(await outcome(folder)).toEqual(await outcome(whole))
  })
})
