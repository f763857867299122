import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { outcomeOf, readLines, runTask, temporaryFolder } from './support/runs.js'
import { makeStep } from './support/task.js'

type Step = ReturnType<typeof makeStep>

/** A step whose micro-batches of the given numbers have a loss that is not a number. */
function withBadLosses(bad: (microStep: number) => boolean): Step {
  const step = makeStep()
  const accumulate = step.accumulate.bind(step)
  step.accumulate = async (batch, at) => {
    const result = await accumulate(batch, at)
    return bad(at.microStep) ? { ...result, lossSum: NaN } : result
  }
  return step
}

/** A step whose gradients are not finite at the given micro-batches. */
function withBadGradients(bad: (microStep: number) => boolean): Step {
  const step = makeStep()
  const accumulate = step.accumulate.bind(step)
  step.accumulate = async (batch, at) => {
    const result = await accumulate(batch, at)
    if (bad(at.microStep)) {
      const state = await step.readState()
      for (const [name, { data }] of state) if (name.startsWith('gradients/')) data[0] = Infinity
      await step.writeState(state)
    }
    return result
  }
  return step
}

describe('a step with', () => {
  it.each([
    { what: 'a loss that is not finite', make: withBadLosses, reason: 'loss is not finite' },
    { what: 'a gradient that is not finite', make: withBadGradients, reason: 'gradient is not finite' },
  ])('$what is skipped and counted, and leaves weights and moments as they were', async ({ make, reason }) => {
    const folder = await temporaryFolder()
    const options = { saveSteps: 1, maxSteps: 3, numTrainEpochs: 1 }
    const { result, warnings } = await runTask(folder, { step: make((micro) => micro === 6), options })
    expect(result).toMatchObject({ status: 'finished', step: 3, exitCode: 0 })
    expect(warnings).toEqual([`step 2: skipped, ${reason} (1 skipped so far)`])
    const [first, second, third] = await readLines(folder, 'train.jsonl')
    expect(second).toMatchObject({ step: 2, loss: null, gradNorm: null, tokens: 0, skipped: reason })
    expect(first.skipped).toBeUndefined()
    expect(third.loss).toBeGreaterThan(0)
    for (const file of ['adapter_model.safetensors', 'optimizer.safetensors']) {
      const [before, after] = await Promise.all(
        [1, 2].map((n) => readFile(join(folder, 'results', `checkpoint-${n}`, file))),
      )
      expect(before.equals(after), file).toBe(true)
    }
  })

  it('skips that are resumed in the middle of the window gives what the uninterrupted run gives', async () => {
    const make = (): Step => withBadLosses((micro) => micro === 5)
    const whole = await temporaryFolder()
    await runTask(whole, { step: make() })
    const folder = await temporaryFolder()
    await runTask(folder, { step: make(), stopWhen: (e) => e.type === 'progress' && e.step === 1 && e.done === 3 })
    await runTask(folder, { step: make() })
    expect(await outcomeOf(folder, 'checkpoint-12')).toEqual(await outcomeOf(whole, 'checkpoint-12'))
  })

  it('no trained token is skipped without counting as divergence', async () => {
    const folder = await temporaryFolder()
    const step = makeStep()
    step.accumulate = () => Promise.resolve({ lossSum: 0, tokens: 0 })
    const { result, warnings } = await runTask(folder, { step, options: { maxSkippedSteps: 2 } })
    expect(result).toMatchObject({ status: 'finished', trainLoss: null })
    expect(warnings).toHaveLength(12)
    expect(warnings[0]).toBe('step 1: skipped, no trained tokens (1 skipped so far)')
  })
})

describe('a run that diverges', () => {
  it('stops, saved, with exit code 1, and can be resumed', async () => {
    const folder = await temporaryFolder()
    const step = withBadLosses((micro) => micro >= 8)
    const { result } = await runTask(folder, { step, options: { maxSkippedSteps: 3, evalStrategy: 'no' } })
    expect(result).toMatchObject({ status: 'diverged', exitCode: 1, step: 5, finalModel: null })
    expect(result.message).toContain('3 steps had a loss or gradient that is not finite')
    expect(result.checkpoint).toMatch(/checkpoint-5$/)
    const again = await runTask(folder, { options: { maxSkippedSteps: 3, evalStrategy: 'no' } })
    expect(again.result).toMatchObject({ status: 'finished', step: 12 })
  })
})

describe('a loss spike', () => {
  it('is reported and marked in the log', async () => {
    const folder = await temporaryFolder()
    const step = makeStep()
    const accumulate = step.accumulate.bind(step)
    step.accumulate = async (batch, at) => {
      const result = await accumulate(batch, at)
      return at.microStep === 23 ? { ...result, lossSum: 9 * result.lossSum } : result
    }
    const options = { gradientAccumulationSteps: 1, evalStrategy: 'no' as const }
    const { warnings } = await runTask(folder, { step, options })
    expect(warnings).toHaveLength(1)
    expect(warnings[0]).toMatch(/^step 24: loss \d+\.\d+ is a spike \(recent mean \d\.\d+\)/)
    const lines = await readLines(folder, 'train.jsonl')
    expect(lines.filter((line) => line.spike === true).map((line) => line.step)).toEqual([24])
  })
})
