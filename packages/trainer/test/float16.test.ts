import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { TrainerEvent, TrainingOptionsInput } from '@mirastral/trainer'
import { parseTrainingOptions } from '@mirastral/trainer'
import { describe, expect, it } from 'vitest'
import { outcomeOf, readLines, runTask, temporaryFolder } from './support/runs.js'
import { makeStep } from './support/task.js'
import { tinyRun } from './support/tiny-run.js'

const lora = { r: 4, loraAlpha: 8, targetModules: ['q_proj', 'v_proj'] }
const base: TrainingOptionsInput = {
  learningRate: 5e-3,
  maxSteps: 8,
  gradientAccumulationSteps: 2,
  maxLength: 16,
  saveSteps: 2,
  evalSteps: 4,
  evalStrategy: 'steps',
  budgetMinutes: null,
  tensorboard: false,
}

const run = (folder: string, more: TrainingOptionsInput, stopWhen?: (event: TrainerEvent) => boolean) =>
  tinyRun(folder, { lora, options: { ...base, ...more }, trainRows: 8, evalRows: 3, sequenceLength: 16, stopWhen })

const logsAndWeights = async (folder: string): Promise<Record<string, string>> => {
  const { train: steps, eval: evaluations, adapter, moments, final } = await outcomeOf(folder, 'checkpoint-8')
  return { steps, evaluations, adapter, moments, final }
}

/** So large that the squares of the scaled gradients overflow float32 until the scale has been halved some times. */
const overflowing = { precision: 'float16', initialLossScale: 2 ** 68 } as const

describe('loss scaling', () => {
  it('changes no bit where nothing overflows', async () => {
    const [scaled, plain] = [await temporaryFolder(), await temporaryFolder()]
    await run(scaled, { precision: 'float16' })
    await run(plain, {})
    expect(await logsAndWeights(scaled)).toEqual(await logsAndWeights(plain))
  })

  it('skips what overflows, halves the scale, and does not count the step for the schedule, as the Trainer does', async () => {
    const folder = await temporaryFolder()
    const { result, warnings } = await run(folder, overflowing)
    expect(result).toMatchObject({ status: 'finished', step: 8, exitCode: 0 })
    const lines = await readLines(folder, 'train.jsonl')
    const skipped = lines.filter((line) => line.skipped === 'float16 overflow').length
    expect(skipped).toBeGreaterThan(1)
    expect(skipped).toBeLessThan(7)
    expect(warnings).toHaveLength(skipped)
    const done = lines.map((_, i) => Math.max(0, i - skipped))
    lines.forEach((line, i) => expect(line.learningRate).toBeCloseTo((5e-3 * (8 - done[i])) / 8, 12))
    expect(lines.slice(0, skipped).every((line) => line.loss === null && line.gradNorm === null)).toBe(true)
    const state = await readFile(join(folder, 'results', 'checkpoint-8', 'mirastral_state.json'), 'utf8')
    expect((JSON.parse(state) as { state: object }).state).toMatchObject({
      updates: 8 - skipped,
      skippedInARow: 0,
      lossScale: { scale: 2 ** (68 - skipped), goodSteps: 8 - skipped, overflows: skipped },
    })
  })

  it('goes on from the scale that a stopped run had found, to the same bits', async () => {
    const [whole, folder] = [await temporaryFolder(), await temporaryFolder()]
    await run(whole, overflowing)
    await run(folder, overflowing, (e) => e.type === 'progress' && e.step === 1 && e.done === 1)
    await run(folder, overflowing, (e) => e.type === 'step' && e.record.step === 4)
    await run(folder, overflowing)
    expect(await outcomeOf(folder, 'checkpoint-8')).toEqual(await outcomeOf(whole, 'checkpoint-8'))
  })

  it('does not hide a gradient that is never finite: the run stops as diverged once no scale is left', async () => {
    const folder = await temporaryFolder()
    const step = makeStep()
    step.update = () => Promise.resolve({ gradNorm: NaN })
    const options = { precision: 'float16', initialLossScale: 8, maxSkippedSteps: 3, numTrainEpochs: 9 } as const
    const { result } = await runTask(folder, { step, options })
    expect(result).toMatchObject({ status: 'diverged', exitCode: 1, step: 6 })
    const reasons = (await readLines(folder, 'train.jsonl')).map((line) => line.skipped)
    expect(reasons).toEqual([
      ...Array<string>(3).fill('float16 overflow'),
      ...Array<string>(3).fill('gradient is not finite'),
    ])
  })

  it('begins or ends where a resumed run changes its precision, which it cannot do within a step', async () => {
    const folder = await temporaryFolder()
    const changed = { precision: 'float16', acceptChangedOptions: true } as const
    await run(folder, {}, (e) => e.type === 'progress' && e.step === 1 && e.done === 1)
    await expect(run(folder, changed)).rejects.toThrow(/must lie between two steps for another precision/)
    await run(folder, {}, (e) => e.type === 'step' && e.record.step === 3)
    const { result, warnings } = await run(folder, changed)
    expect(result.status).toBe('finished')
    expect(warnings).toEqual([
      'option changed since the checkpoint: precision float16 where the checkpoint has float32',
    ])
    const state = await readFile(join(folder, 'results', 'checkpoint-8', 'mirastral_state.json'), 'utf8')
    expect(JSON.parse(state)).toMatchObject({ state: { lossScale: { scale: 65_536, goodSteps: 5, overflows: 0 } } })
  })

  it('begins with a power of two', () => {
    expect(() => parseTrainingOptions({ initialLossScale: 1000 })).toThrow(/initialLossScale: must be a power of two/)
  })
})
