import { cp, readdir, readFile, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { TrainerError } from '@mirastral/trainer'
import { describe, expect, it } from 'vitest'
import { outcomeOf, readLines, runTask, temporaryFolder } from './support/runs.js'
import { identity, makeEvaluation, makePairs, makeStep } from './support/task.js'

const newData = {
  data: { train: makePairs(11, 99), eval: makeEvaluation(5) },
  identity: { ...identity, data: 'pairs-99' },
}

describe('an incremental run', () => {
  it('ends at once where there is nothing new, without touching step or data', async () => {
    const folder = await temporaryFolder()
    await runTask(folder)
    const never = (): Promise<never> => Promise.reject(new Error('must not be asked for'))
    const { result } = await runTask(folder, { step: never, data: never })
    expect(result).toMatchObject({ status: 'nothing-new', exitCode: 0, step: 12 })
    expect(result.finalModel).toBe(join(folder, 'final_model'))
    const withoutData = await runTask(folder, { step: never, data: null, identity: { ...identity, data: 'none' } })
    expect(withoutData.result.status).toBe('nothing-new')
    const empty = await runTask(folder, { data: { train: makePairs(0) }, identity: { ...identity, data: 'none' } })
    expect(empty.result.status).toBe('nothing-new')
  })

  it('trains new data from the last adapter with a fresh schedule and fresh moments', async () => {
    const folder = await temporaryFolder()
    await runTask(folder)
    const before = await readFile(join(folder, 'final_model', 'adapter_model.safetensors'))
    const { result, events } = await runTask(folder, newData)
    expect(result).toMatchObject({ status: 'finished', run: 2, step: 18, totalSteps: 18 })
    expect(events[0]).toMatchObject({ type: 'start', run: 2, step: 12, totalSteps: 18, resumedFrom: null })
    const lines = await readLines(folder, 'train.jsonl')
    expect(lines.map((line) => line.step)).toEqual([...Array(18).keys()].map((i) => i + 1))
    const rates = lines.slice(12).map((line) => line.learningRate)
    expect(rates).toEqual([6, 5, 4, 3, 2, 1].map((left) => 0.05 * (left / 6)))
    // The first step of the second run is the first step of a fresh optimizer on the first run's adapter.
    const fresh = makeStep()
    const state = await fresh.readState()
    const offset = 8 + before.readUInt32LE(0)
    const floats = new Float32Array(before.buffer.slice(before.byteOffset + offset, before.byteOffset + before.length))
    let at = 0
    for (const [name, tensor] of state) {
      if (!name.startsWith('adapter/')) continue
      tensor.data.set(floats.subarray(at, at + tensor.data.length))
      at += tensor.data.length
    }
    await fresh.writeState(state)
    let [lossSum, tokens] = [0, 0]
    for (let i = 0; i < 4; i++) {
      const r = await fresh.accumulate(await newData.data.train.get(0, i), { microStep: i })
      lossSum += r.lossSum
      tokens += r.tokens
    }
    expect(lines[12].loss).toBe(lossSum / tokens)
  })

  it('that is stopped goes on, and equals the uninterrupted one', async () => {
    const whole = await temporaryFolder()
    await runTask(whole)
    await runTask(whole, newData)
    const folder = await temporaryFolder()
    await runTask(folder)
    await runTask(folder, { ...newData, stopWhen: (e) => e.type === 'progress' && e.step === 12 && e.done === 2 })
    const { events } = await runTask(folder, newData)
    expect(events[0]).toMatchObject({ type: 'start', run: 2, step: 12 })
    expect(await outcomeOf(folder, 'checkpoint-18')).toEqual(await outcomeOf(whole, 'checkpoint-18'))
  })

  it('refuses another base model', async () => {
    const folder = await temporaryFolder()
    await runTask(folder)
    const run = runTask(folder, { ...newData, identity: { ...newData.identity, model: 'other' } })
    await expect(run).rejects.toMatchObject({ code: 'MIRASTRAL_CHECKPOINT_MISMATCH' })
  })
})

describe('a finished run', () => {
  it('makes its final model again where it is missing', async () => {
    const folder = await temporaryFolder()
    await runTask(folder)
    const path = join(folder, 'final_model', 'adapter_model.safetensors')
    const before = await readFile(path)
    await rm(join(folder, 'final_model'), { recursive: true })
    const { result } = await runTask(folder)
    expect(result).toMatchObject({ status: 'finished', step: 12 })
    expect((await readFile(path)).equals(before)).toBe(true)
  })
})

describe('a run that was killed after its last checkpoint', () => {
  it('tidies up what that checkpoint made superfluous', async () => {
    const folder = await temporaryFolder()
    await runTask(folder, { stopWhen: (e) => e.type === 'progress' && e.step === 10 && e.done === 2 })
    const results = join(folder, 'results')
    await cp(join(results, 'checkpoint-10-micro-2'), join(folder, 'partial'), { recursive: true })
    await runTask(folder)
    await cp(join(folder, 'partial'), join(results, 'checkpoint-10-micro-2'), { recursive: true })
    await rm(join(results, 'status.json'))
    const { result } = await runTask(folder)
    expect(result.status).toBe('finished')
    expect(await readdir(results)).not.toContain('checkpoint-10-micro-2')
  })
})

describe('a first run', () => {
  it('without data is an error', async () => {
    const run = runTask(await temporaryFolder(), { data: { train: makePairs(0) } })
    await expect(run).rejects.toThrow(TrainerError)
    await expect(run).rejects.toMatchObject({ code: 'MIRASTRAL_TRAINER_DATA', exitCode: 2 })
  })
})
