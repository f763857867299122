import { readFileSync, statSync } from 'node:fs'
import { appendFile, readFile, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type {
  PreferenceBatch,
  PreferenceLossType,
  PreferencePair,
  PreferenceStep,
  TrainerEvent,
  TrainResult,
} from '@mirastral/trainer'
import {
  collatePairs,
  createPreferenceStep,
  pairsIn,
  parseTrainingOptions,
  preferenceBatchesOf,
  preferenceRun,
  referenceLogProbs,
  StopRequested,
  StopSource,
  train,
  TrainerEvents,
} from '@mirastral/trainer'
import { readFloat32, SafetensorsFile } from '@mirastral/safetensors'
import { describe, expect, it } from 'vitest'
import { outcomeOf, readLines, temporaryFolder } from './support/runs.js'
import { identity } from './support/task.js'
import { tinyRequest, tinySaveAdapter } from './support/tiny-model.js'

interface Case {
  lossType: PreferenceLossType
  beta: number
  learningRate: number
  labelSmoothing: number
  accumulation: number
  history: Record<string, number>[]
  final: Record<string, { shape: number[]; data: number[] }>
}

const golden = JSON.parse(
  readFileSync(new URL('../../../fixtures/trainer/preference-run.json', import.meta.url), 'utf8'),
) as {
  pairs: { prompt_ids: number[]; chosen_ids: number[]; rejected_ids: number[] }[]
  initial: Record<string, { shape: number[]; data: number[] }>
  cases: Case[]
}

const pairs = golden.pairs.map(({ prompt_ids, chosen_ids, rejected_ids }): PreferencePair => {
  const row = (answer: number[]): PreferencePair['chosen'] => ({
    inputIds: Int32Array.from([...prompt_ids, ...answer]),
    labels: Int32Array.from([...prompt_ids.map(() => -100), ...answer]),
  })
  return { chosen: row(chosen_ids), rejected: row(rejected_ids) }
})

const lora = { r: 4, loraAlpha: 8, targetModules: ['q_proj', 'v_proj'] }
const batching = { batchSize: 2, padTokenId: 0, sequenceLength: 16 }

const optionsOf = ({ learningRate, accumulation }: Pick<Case, 'learningRate' | 'accumulation'>) => ({
  learningRate,
  maxSteps: 10,
  perDeviceTrainBatchSize: 2,
  gradientAccumulationSteps: accumulation,
  budgetMinutes: null,
  tensorboard: false,
})

async function makeStep(expected: Case): Promise<PreferenceStep> {
  const adapterTensors = new Map(
    Object.entries(golden.initial).map(([key, { shape, data }]) => [key, { shape, data: Float32Array.from(data) }]),
  )
  const options = optionsOf(expected)
  const request = await tinyRequest({ lora, options, quantization: 'none', adapterTensors })
  return createPreferenceStep({ ...request, preference: expected })
}

async function trainPairs(folder: string, expected: Case): Promise<TrainResult> {
  const step = await makeStep(expected)
  const references = await referenceLogProbs({
    step,
    pairs: pairsIn(pairs),
    file: join(folder, 'references'),
    model: 'tiny',
    ...batching,
  })
  const result = await train<PreferenceBatch>({
    outputDir: folder,
    identity,
    step,
    data: {
      train: preferenceBatchesOf(pairsIn(pairs), references, { ...batching, seed: 42 }),
      eval: preferenceBatchesOf(pairsIn(pairs.slice(0, 5)), references, batching),
    },
    saveAdapter: tinySaveAdapter(lora),
    handleSignals: false,
    options: parseTrainingOptions({ ...optionsOf(expected), evalOnStart: true }),
  })
  await step.dispose()
  return result
}

describe('preference training', () => {
  it.each(golden.cases)("equals TRL's DPOTrainer with PEFT: $lossType, 10 steps", async (expected) => {
    const folder = await temporaryFolder()
    await trainPairs(folder, expected)
    const lines = await readLines(folder, 'train.jsonl')
    expect(lines).toHaveLength(10)
    lines.forEach((line, i) => {
      const theirs = expected.history[i]
      expect(line.loss, `loss of step ${i + 1}`).toBeCloseTo(theirs.loss, 4)
      expect(line.gradNorm, `gradient norm of step ${i + 1}`).toBeCloseTo(theirs.grad_norm, 3)
      expect(line.learningRate).toBeCloseTo(theirs.learning_rate, 12)
      for (const [name, value] of Object.entries(line.metrics as Record<string, number>)) {
        expect(value, `${name} of step ${i + 1}`).toBeCloseTo(theirs[name], 3)
      }
    })
    const file = await SafetensorsFile.open(join(folder, 'final_model', 'adapter_model.safetensors'))
    for (const [key, { data }] of Object.entries(expected.final)) {
      const ours = await readFloat32(file, key)
      data.forEach((value, i) => expect(Math.abs(ours[i] - value), `${key}[${i}]`).toBeLessThan(1e-4))
    }
    await file.close()
  })

  it('evaluates by the share of pairs that are ranked rightly, and learns to', async () => {
    const folder = await temporaryFolder()
    await trainPairs(folder, golden.cases[0])
    const [first, last] = await readLines(folder, 'eval.jsonl')
    expect(first).toMatchObject({ step: 0, evalLoss: Math.LN2, evalTokenAccuracy: 0, evalTokens: 5 })
    expect(last.evalTokenAccuracy).toBeGreaterThan(0.7)
    expect(last.metrics).toMatchObject({ 'rewards/accuracies': last.evalTokenAccuracy })
  })
})

describe('the log-probabilities without the adapter', () => {
  const counting = (): { step: Pick<PreferenceStep, 'referenceLogProbs'>; calls: () => number } => {
    let calls = 0
    const step = {
      referenceLogProbs: (rows: { batchSize: number; inputIds: Int32Array }) => {
        calls++
        return Promise.resolve(Float32Array.from({ length: rows.batchSize }, (_, i) => -rows.inputIds[16 * i] - i / 8))
      },
    }
    return { step, calls: () => calls }
  }
  const request = { pairs: pairsIn(pairs), model: 'tiny', ...batching }

  it('are computed once, and again from where a kill or a stop left them', async () => {
    const folder = await temporaryFolder()
    const file = join(folder, 'a', 'references')
    const whole = await referenceLogProbs({ ...request, ...counting(), file })
    expect(whole).toHaveLength(32)
    const again = counting()
    expect(await referenceLogProbs({ ...request, step: again.step, file })).toEqual(whole)
    expect(again.calls()).toBe(0)

    const bytes = await readFile(file)
    await truncate(file, statSync(file).size - 30)
    const torn = counting()
    expect(await referenceLogProbs({ ...request, step: torn.step, file })).toEqual(whole)
    expect(torn.calls()).toBe(2)
    expect((await readFile(file)).equals(bytes)).toBe(true)

    bytes[bytes.length - 5 * 12] ^= 1
    await writeFile(file, bytes)
    expect(await referenceLogProbs({ ...request, ...counting(), file })).toEqual(whole)

    const stop = new StopSource()
    const stopped = join(folder, 'stopped')
    const first = referenceLogProbs({
      ...request,
      ...counting(),
      file: stopped,
      stop,
      onProgress: (done) => done >= 6 && stop.request({ kind: 'request', by: 'test' }),
    })
    await expect(first).rejects.toThrow(StopRequested)
    const rest = counting()
    expect(await referenceLogProbs({ ...request, step: rest.step, file: stopped })).toEqual(whole)
    expect(rest.calls()).toBe(5)
  })

  it('of other pairs or another model are not taken for these', async () => {
    const file = join(await temporaryFolder(), 'references')
    await referenceLogProbs({ ...request, ...counting(), file })
    await appendFile(file, 'more')
    for (const change of [{ model: 'other' }, { pairs: pairsIn(pairs.slice(1)) }, { sequenceLength: 32 }]) {
      const other = counting()
      await referenceLogProbs({ ...request, ...change, step: other.step, file })
      expect(other.calls()).toBe(8)
    }
  })

  it('come with the chosen rows first', () => {
    const { batchSize, inputIds, targets } = collatePairs(pairs.slice(0, 2), batching)
    expect(batchSize).toBe(4)
    const rows = [pairs[0].chosen, pairs[1].chosen, pairs[0].rejected, pairs[1].rejected]
    rows.forEach((row, i) => {
      expect([...inputIds.subarray(16 * i, 16 * i + row.inputIds.length)]).toEqual([...row.inputIds])
      const trained = targets.subarray(16 * i, 16 * (i + 1)).filter((target) => target !== -100)
      expect([...trained]).toEqual([...row.labels.filter((label) => label !== -100)])
    })
  })
})

describe('a run on pairs', () => {
  const expected = golden.cases[0]
  const runOn = (
    folder: string,
    stopWhen: (event: TrainerEvent) => boolean = () => false,
    limit: number | null = null,
  ) => {
    const stop = new StopSource()
    const events = new TrainerEvents()
    events.onAny((event) => stopWhen(event) && stop.request({ kind: 'request', by: 'test' }))
    let computed = 0
    const parts = preferenceRun({
      ...batching,
      step: () => makeStep(expected),
      train: pairsIn(pairs),
      eval: pairsIn(pairs.slice(0, 5)),
      seed: 42,
      folder,
      model: 'tiny',
      onReference: (done) => {
        computed++
        if (limit !== null && done >= limit) stop.request({ kind: 'budget', seconds: 60 })
      },
    })
    const options = { ...optionsOf(expected), saveSteps: 4, evalStrategy: 'steps' as const, evalSteps: 3 }
    const request = { outputDir: folder, identity, ...parts, saveAdapter: tinySaveAdapter(lora), stop, events, options }
    return train<PreferenceBatch>({ ...request, handleSignals: false }).then((result) => ({ result, computed }))
  }

  it('that is stopped while the reference is computed, in a window, in an evaluation and between steps equals the whole one', async () => {
    const whole = await temporaryFolder()
    expect((await runOn(whole)).result).toMatchObject({ status: 'finished', step: 10 })
    const folder = await temporaryFolder()
    const early = await runOn(folder, undefined, 6)
    expect(early.result).toMatchObject({ status: 'stopped', exitCode: 0, step: 0, checkpoint: null })
    const stops: ((event: TrainerEvent) => boolean)[] = [
      (e) => e.type === 'progress' && e.step === 1 && e.phase === 'train' && e.done === 1,
      (e) => e.type === 'progress' && e.phase === 'evaluate' && e.done === 1,
      (e) => e.type === 'step' && e.record.step === 7,
    ]
    const computed: number[] = [early.computed]
    for (const stopWhen of stops) {
      const { result, computed: count } = await runOn(folder, stopWhen)
      expect(result.status).toBe('stopped')
      computed.push(count)
    }
    expect((await runOn(folder)).result.status).toBe('finished')
    // 8 batches of training pairs and 3 of evaluation pairs, none of them twice.
    expect(computed).toEqual([3, 8, 0, 0])
    expect(await outcomeOf(folder, 'checkpoint-10')).toEqual(await outcomeOf(whole, 'checkpoint-10'))
    for (const line of await readLines(folder, 'eval.jsonl')) expect(line).not.toHaveProperty('evalPerplexity')
  })

  it('says how the pairs are ranked', async () => {
    const lines: string[] = []
    const folder = await temporaryFolder()
    const step = await makeStep(expected)
    const evaluation = { train: pairsIn(pairs), eval: pairsIn(pairs.slice(0, 5)) }
    await train<PreferenceBatch>({
      outputDir: folder,
      identity,
      ...preferenceRun({
        ...batching,
        ...evaluation,
        step: () => Promise.resolve(step),
        seed: 42,
        folder,
        model: 'tiny',
      }),
      saveAdapter: tinySaveAdapter(lora),
      handleSignals: false,
      options: optionsOf(expected),
      progress: { write: (text: string) => lines.push(text) },
    })
    const said = lines.join('')
    expect(said).toMatch(/step 10\/10: loss \d\S*, margin \S+, lr/)
    expect(said).toMatch(/step 10: eval loss \S+, \d+\.\d% of the pairs ranked rightly, reward margin \S+\n/)
    expect(said).not.toContain('perplexity')
  })
})
