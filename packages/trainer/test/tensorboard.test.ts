import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { TrainerEvent } from '@mirastral/trainer'
import { describe, expect, it } from 'vitest'
import { readTensorBoard } from './support/read-tensorboard.js'
import type { RequestChanges } from './support/runs.js'
import { readLines, runTask, temporaryFolder } from './support/runs.js'
import { makeStep, saveAdapter } from './support/task.js'

/** Every record of the logs is in TensorBoard once, and nothing else is. */
async function expectEqualToLogs(folder: string): Promise<void> {
  const series = await readTensorBoard(join(folder, 'results', 'tensorboard'))
  const logged = async (log: string, name: string): Promise<[number, number][]> =>
    (await readLines(folder, log)).map((line) => [Number(line.step), Math.fround(Number(line[name]))])
  expect(series.get('train/loss')).toEqual(await logged('train.jsonl', 'loss'))
  expect(series.get('train/learning_rate')).toEqual(await logged('train.jsonl', 'learningRate'))
  expect(series.get('eval/loss')).toEqual(await logged('eval.jsonl', 'evalLoss'))
  const memory = (await readLines(folder, 'speed.jsonl')).map((line) => Number(line.step))
  expect(series.get('memory/resident_bytes')?.map(([step]) => step)).toEqual(memory)
}

/** Ends as a process that is killed there would: nothing more is saved. */
async function killWhen(folder: string, isThere: (event: TrainerEvent) => boolean): Promise<void> {
  let killed = false
  const step = makeStep()
  const accumulate = step.accumulate.bind(step)
  const die = (): void => {
    if (killed) throw new Error('killed')
  }
  step.accumulate = (...given) => (die(), accumulate(...given))
  const changes: RequestChanges = {
    step,
    saveAdapter: async (...given) => (die(), saveAdapter(...given)),
    stopWhen: (event) => {
      killed ||= isThere(event)
      return false
    },
  }
  await expect(runTask(folder, changes)).rejects.toThrow('killed')
}

describe('TensorBoard', () => {
  it('shows every step and evaluation once after a stop in an evaluation and a kill behind it', async () => {
    const folder = await temporaryFolder()
    await runTask(folder, { stopWhen: (e) => e.type === 'progress' && e.phase === 'evaluate' && e.done === 2 })
    await killWhen(folder, (e) => e.type === 'evaluate')
    expect((await readLines(folder, 'eval.jsonl')).map((line) => line.step)).toEqual([4])
    await runTask(folder)
    expect((await readLines(folder, 'eval.jsonl')).map((line) => line.step)).toEqual([4, 8, 12])
    await expectEqualToLogs(folder)
  })

  it('does so after kills at any event', async () => {
    const { events } = await runTask(await temporaryFolder())
    const last = events.findLastIndex((event) => event.type === 'progress')
    for (let at = 1; at < last; at += 3) {
      const folder = await temporaryFolder()
      let seen = 0
      await killWhen(folder, () => seen++ === at)
      await runTask(folder)
      await expectEqualToLogs(folder)
    }
  })

  it('does so for an evaluation before the first step, in a second run too, and where the clock was put back', async () => {
    const folder = await temporaryFolder()
    const options = { evalOnStart: true }
    await runTask(folder, { options, stopWhen: (e) => e.type === 'progress' && e.phase === 'evaluate' })
    await mkdir(join(folder, 'results', 'tensorboard'), { recursive: true })
    await writeFile(join(folder, 'results', 'tensorboard', 'events.out.tfevents.9999999990.000.host.1'), '')
    await runTask(folder, { options })
    await expectEqualToLogs(folder)
  })
})
