import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import type { BigramStep } from './support/bigram-step.js'
import { outcomeOf, readLines, runTask, temporaryFolder } from './support/runs.js'
import { makeStep } from './support/task.js'

/** A clock that only work moves: every micro-batch takes 10 s, an evaluation batch 5 s, reading the state (a save) 20 s. */
function timedStep(begin = 0, saveSeconds = 20): { step: BigramStep; elapsed: () => number } {
  let seconds = begin
  const step = makeStep()
  const [accumulate, evaluate] = [step.accumulate.bind(step), step.evaluate.bind(step)]
  const readState = step.readState.bind(step)
  step.accumulate = (...a) => ((seconds += 10), accumulate(...a))
  step.evaluate = (...a) => ((seconds += 5), evaluate(...a))
  step.readState = () => ((seconds += saveSeconds), readState())
  return { step, elapsed: () => seconds }
}

describe('the time budget', () => {
  it('stops in time to have saved, and the segments together equal the uninterrupted run', async () => {
    const whole = await temporaryFolder()
    await runTask(whole)
    const folder = await temporaryFolder()
    let status = 'stopped'
    let segments = 0
    while (status === 'stopped') {
      const { step, elapsed } = timedStep(30)
      const { result } = await runTask(folder, { step, elapsed, options: { budgetMinutes: 4 } })
      expect(elapsed()).toBeLessThanOrEqual(240)
      if (result.status === 'stopped') expect(elapsed()).toBeGreaterThan(150)
      status = result.status
      segments++
    }
    expect(segments).toBeGreaterThan(3)
    expect(await outcomeOf(folder, 'checkpoint-12')).toEqual(await outcomeOf(whole, 'checkpoint-12'))
    const ends = (await readLines(folder, 'segments.jsonl')).filter((line) => line.event === 'end')
    expect(ends.map((line) => line.reason)).toEqual([
      ...Array<string>(segments - 1).fill('stopped: time budget of 4 min'),
      'finished',
    ])
  })

  it('that one step does not fit into is used up by single batches', async () => {
    const folder = await temporaryFolder()
    const { result } = await runTask(folder, { ...timedStep(0, 3), options: { budgetMinutes: 0.5 } })
    expect(result).toMatchObject({ status: 'stopped', step: 0 })
    expect(result.message).toContain('time budget of 30 s')
    expect(await readdir(join(folder, 'results'))).toContain('checkpoint-0-micro-2')
  })

  it('that ends before the training begins is an error that says how long it would have to be', async () => {
    const folder = await temporaryFolder()
    await runTask(folder, { ...timedStep(), options: { budgetMinutes: 2 } })
    const late = runTask(folder, { ...timedStep(100), options: { budgetMinutes: 2 } })
    await expect(late).rejects.toMatchObject({ code: 'MIRASTRAL_BUDGET_TOO_SHORT', exitCode: 2 })
    await expect(late).rejects.toThrow(/got 2\.0 min where at least 2\.\d min are needed/)
    const afterLoading = runTask(await temporaryFolder(), {
      elapsed: () => 3061,
      options: { budgetMinutes: 51 },
      data: async ({ stop }) => {
        await new Promise((resolve) => stop.signal.addEventListener('abort', resolve))
        throw stop.signal.reason
      },
    })
    await expect(afterLoading).rejects.toMatchObject({ code: 'MIRASTRAL_BUDGET_TOO_SHORT' })
    await expect(afterLoading).rejects.toThrow('got time budget of 51 min')
  })

  it('that ends exactly at a checkpoint saves once', async () => {
    const folder = await temporaryFolder()
    // 12 batches, 3 steps: 120 s, and 15 s of one evaluation less; the checkpoint of step 3 ends at 140 s.
    const { result, events } = await runTask(folder, {
      ...timedStep(),
      options: { budgetMinutes: 140 / 60, evalSteps: 100 },
    })
    expect(result.status).toBe('stopped')
    const saves = events.filter((e) => e.type === 'save').map((e) => e.checkpoint)
    expect(new Set(saves).size).toBe(saves.length)
  })

  it('does not look at the wall clock', async () => {
    const folder = await temporaryFolder()
    const now = Date.now
    let jumps = 0
    Date.now = () => now() + (jumps++ % 2 === 0 ? 1 : -1) * 86_400_000
    try {
      const { result } = await runTask(folder, { options: { budgetMinutes: 5 } })
      expect(result.status).toBe('finished')
    } finally {
      Date.now = now
    }
  })
})
