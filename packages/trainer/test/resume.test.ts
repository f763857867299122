import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import type { TrainerEvent } from '@mirastral/trainer'
import { StopSource } from '@mirastral/trainer'
import { describe, expect, it } from 'vitest'
import type { Outcome } from './support/runs.js'
import { outcomeOf, readLines, runTask, temporaryFolder } from './support/runs.js'
import { makeEvaluation, makePairs } from './support/task.js'

/** 11 rows: two epochs of three steps, the last of which takes three rows. */
const small = () => ({
  data: { train: makePairs(11), eval: makeEvaluation(3) },
  options: { saveSteps: 2, evalSteps: 2 },
})
const last = 'checkpoint-6'

const uninterrupted = async (): Promise<Record<string, string>> => {
  const folder = await temporaryFolder()
  const { result } = await runTask(folder, small())
  expect(result).toMatchObject({ status: 'finished', step: 6, totalSteps: 6 })
  return outcomeOf(folder, last)
}

describe('a resumed run', () => {
  it('equals the uninterrupted one bit for bit, wherever it is stopped', async () => {
    const expected = await uninterrupted()
    const { events } = await runTask(await temporaryFolder(), small())
    const stops = events.filter((e) => e.type !== 'warning' && e.type !== 'stop').length
    expect(stops).toBeGreaterThan(35)
    const names = new Set<string>()
    for (let at = 0; at < stops; at++) {
      const folder = await temporaryFolder()
      let count = 0
      const first = await runTask(folder, { ...small(), stopWhen: () => count++ === at })
      if (first.result.status === 'stopped' && first.result.checkpoint) {
        names.add(first.result.checkpoint.replace(/^.*checkpoint-\d+/, '').replace(/\d+$/, ''))
      }
      const second = await runTask(folder, small())
      expect(second.result.status, `stopped at event ${at}`).toMatch(/finished|nothing-new/)
      expect(await outcomeOf(folder, last), `stopped at event ${at}`).toEqual(expected)
    }
    expect([...names].sort()).toEqual(['', '-evaluate-', '-micro-'])
  })

  it('equals the uninterrupted one if it is stopped after every single batch', async () => {
    const expected = await uninterrupted()
    const folder = await temporaryFolder()
    const stopAtOnce = (event: TrainerEvent): boolean => event.type === 'progress' || event.type === 'step'
    let outcome: Outcome
    let segments = 0
    do {
      outcome = await runTask(folder, { ...small(), stopWhen: stopAtOnce })
      segments++
    } while (outcome.result.status === 'stopped')
    expect(segments).toBeGreaterThan(25)
    expect(await outcomeOf(folder, last)).toEqual(expected)
    expect((await readLines(folder, 'segments.jsonl')).length).toBe(2 * segments)
  })

  it('leaves no partial checkpoint once a whole one is newer', async () => {
    const folder = await temporaryFolder()
    await runTask(folder, { stopWhen: (e) => e.type === 'progress' && e.step === 1 && e.done === 2 })
    expect(await readdir(join(folder, 'results'))).toContain('checkpoint-1-micro-2')
    await runTask(folder)
    const names = (await readdir(join(folder, 'results'))).filter((name) => name.startsWith('checkpoint'))
    expect(names.sort()).toEqual(['checkpoint-12', 'checkpoint-3', 'checkpoint-6', 'checkpoint-9'])
  })

  it('loses nothing if the stop unwinds the data of the next batch', async () => {
    const expected = await uninterrupted()
    const folder = await temporaryFolder()
    const { data } = small()
    const stop = new StopSource()
    const get: typeof data.train.get = (epoch, index) => {
      if (epoch === 1 && index === 6) stop.request({ kind: 'request', by: 'test' })
      stop.throwIfRequested()
      return data.train.get(epoch, index)
    }
    const { result } = await runTask(folder, { ...small(), stop, data: { ...data, train: { ...data.train, get } } })
    expect(result).toMatchObject({ status: 'stopped', step: 4 })
    expect(result.checkpoint).toMatch(/checkpoint-4-micro-2$/)
    await runTask(folder, small())
    expect(await outcomeOf(folder, last)).toEqual(expected)
  })
})
