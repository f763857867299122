import { appendFile, mkdir, readdir, readFile, rm, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { inspectRun, TrainerError } from '@mirastral/trainer'
import { describe, expect, it } from 'vitest'
import { outcomeOf, readLines, runTask, temporaryFolder, tensorNames } from './support/runs.js'
import { identity, makePairs, makeWorseningStep, saveAdapter } from './support/task.js'

const flipBit = async (path: string): Promise<void> => {
  const bytes = await readFile(path)
  bytes[bytes.length >> 1] ^= 4
  await writeFile(path, bytes)
}

const shorten = async (path: string): Promise<void> => truncate(path, (await readFile(path)).length - 7)

const damages = [
  { what: 'shortened', damage: shorten },
  { what: 'with a flipped bit', damage: flipBit },
  { what: 'missing', damage: (path: string) => rm(path) },
  { what: 'empty', damage: (path: string) => truncate(path, 0) },
]

const files = [
  'adapter_config.json',
  'adapter_model.safetensors',
  'optimizer.safetensors',
  'mirastral_state.json',
  'trainer_state.json',
  'manifest.json',
]

/** A run stopped after step 7, with checkpoints 3, 6 and 7. */
const stopped = async (): Promise<string> => {
  const folder = await temporaryFolder()
  const { result } = await runTask(folder, { stopWhen: (e) => e.type === 'step' && e.record.step === 7 })
  expect(result).toMatchObject({ status: 'stopped', step: 7 })
  return folder
}

let whole: Promise<Buffer> | null = null
const undisturbed = async (): Promise<Buffer> => {
  const folder = await temporaryFolder()
  await runTask(folder)
  return readFile(join(folder, 'final_model', 'adapter_model.safetensors'))
}

const failure = async (work: Promise<unknown>): Promise<TrainerError> => {
  const error: unknown = await work.then(
    () => null,
    (reason: unknown) => reason,
  )
  expect(error).toBeInstanceOf(TrainerError)
  return error as TrainerError
}

describe('a checkpoint', () => {
  it('is a PEFT directory with the optimizer, the state and a manifest beside', async () => {
    const folder = await stopped()
    const checkpoint = join(folder, 'results', 'checkpoint-6')
    expect((await readdir(checkpoint)).sort()).toEqual([...files].sort())
    expect(await tensorNames(join(checkpoint, 'adapter_model.safetensors'))).toEqual([
      'base_model.model.lm_head.lora_A.weight',
      'base_model.model.lm_head.lora_B.weight',
    ])
    const optimizer = await tensorNames(join(checkpoint, 'optimizer.safetensors'))
    expect(optimizer.every((name) => name.startsWith('moments/'))).toBe(true)
  })

  it("keeps the Trainer's state in the Trainer's words", async () => {
    const folder = await stopped()
    const text = await readFile(join(folder, 'results', 'checkpoint-6', 'trainer_state.json'), 'utf8')
    const state = JSON.parse(text) as Record<string, unknown>
    expect(Object.keys(state)).toEqual(Object.keys(state).sort())
    expect(state).toMatchObject({ global_step: 6, max_steps: 12, epoch: 1, num_train_epochs: 2, save_steps: 3 })
    const history = state.log_history as Record<string, unknown>[]
    expect(Object.keys(history[0])).toEqual(['loss', 'grad_norm', 'learning_rate', 'epoch', 'step'])
    expect(history.map((entry) => entry.step)).toEqual([1, 2, 3, 4, 4, 5, 6])
    expect(text.endsWith('}\n')).toBe(true)
  })

  it.each(files.flatMap((file) => damages.map((damage) => ({ file, ...damage }))))(
    'with $file $what is named and not used; the one before is, and the result is the same',
    async ({ file, damage }) => {
      const folder = await stopped()
      await damage(join(folder, 'results', 'checkpoint-7', file))
      const { result, warnings } = await runTask(folder)
      expect(result.status).toBe('finished')
      expect(warnings[0]).toContain(join('results', 'checkpoint-7'))
      expect(warnings[0]).toContain(file)
      expect(warnings[1]).toContain(join('results', 'checkpoint-6'))
      expect(await readLines(folder, 'train.jsonl')).toHaveLength(12)
    },
  )

  const logs = ['train.jsonl', 'eval.jsonl', 'speed.jsonl', 'segments.jsonl', 'status.json']
  it.each(logs.flatMap((log) => damages.map((damage) => ({ log, ...damage }))))(
    'goes on to the same weights with $log $what, and what can be read of it stays readable',
    async ({ log, what, damage }) => {
      const folder = await stopped()
      await damage(join(folder, 'results', log))
      const { result, warnings } = await runTask(folder)
      expect(result).toMatchObject({ status: 'finished', exitCode: 0 })
      // A flipped bit may make one digit another.
      const isSeen = ['train.jsonl', 'eval.jsonl', 'speed.jsonl'].includes(log) && what !== 'with a flipped bit'
      if (isSeen) expect(warnings.join()).toMatch(`log ${log.slice(0, -6)}: is shorter`)
      expect(warnings.join()).not.toMatch(/unexpected|JSON|position/i)
      const weights = await readFile(join(folder, 'final_model', 'adapter_model.safetensors'))
      expect(weights.equals(await (whole ??= undisturbed()))).toBe(true)
      expect(await readFile(join(folder, 'report.html'), 'utf8')).toContain('Training report: step 12 of 12')
    },
  )

  it('leaves out a damaged line of a log, and says so', async () => {
    const folder = await stopped()
    const path = join(folder, 'results', 'eval.jsonl')
    await writeFile(path, (await readFile(path, 'utf8')).replace('{', '['))
    const { warnings, result } = await runTask(folder)
    expect(warnings).toEqual(['log eval: 1 damaged line is left out of reports'])
    expect(result.evaluation?.step).toBe(12)
  })

  it('that fell back gives what the uninterrupted run gives', async () => {
    const whole = await temporaryFolder()
    await runTask(whole)
    const folder = await stopped()
    await flipBit(join(folder, 'results', 'checkpoint-7', 'adapter_model.safetensors'))
    await rm(join(folder, 'results', 'checkpoint-6'), { recursive: true })
    const { events } = await runTask(folder)
    expect(events.find((e) => e.type === 'start')?.resumedFrom).toMatch(/checkpoint-3$/)
    expect(await outcomeOf(folder, 'checkpoint-12')).toEqual(await outcomeOf(whole, 'checkpoint-12'))
  })

  it('is asked for by name where all of them are damaged; nothing is overwritten', async () => {
    const folder = await stopped()
    for (const step of [3, 6, 7]) await flipBit(join(folder, 'results', `checkpoint-${step}`, 'optimizer.safetensors'))
    const error = await failure(runTask(folder))
    expect(error).toMatchObject({ code: 'MIRASTRAL_CHECKPOINT_DAMAGED', exitCode: 2 })
    expect(error.message).toContain('3 damaged')
    expect(error.message).toContain('--force-restart')
    expect(await readdir(join(folder, 'results'))).toContain('checkpoint-7')
  })

  it('that a killed process left half-written is swept away', async () => {
    const folder = await stopped()
    const half = join(folder, 'results', '.tmp-checkpoint-8')
    await mkdir(half)
    await writeFile(join(half, 'adapter_model.safetensors'), 'half')
    await appendFile(join(folder, 'results', 'train.jsonl'), '{"run":1,"step":8,"epo')
    const { warnings } = await runTask(folder)
    expect(warnings).toEqual([])
    expect(await readdir(join(folder, 'results'))).not.toContain('.tmp-checkpoint-8')
    expect((await readLines(folder, 'train.jsonl')).map((line) => line.step)).toEqual(
      [...Array(12).keys()].map((i) => i + 1),
    )
  })

  it('of another model, adapter, or recipe is refused with everything that differs', async () => {
    const folder = await stopped()
    const changed = { identity: { ...identity, adapter: 'lora r=8 alpha=8', tokenizer: 'other' }, options: {} }
    const error = await failure(runTask(folder, changed))
    expect(error).toMatchObject({ code: 'MIRASTRAL_CHECKPOINT_MISMATCH', exitCode: 2 })
    expect(error.message).toContain('adapter lora r=8 alpha=8 where the checkpoint has lora r=4 alpha=8')
    expect(error.message).toContain('tokenizer other where the checkpoint has nothing')
    const recipe = await failure(runTask(folder, { options: { learningRate: 0.01, seed: 7 } }))
    expect(recipe.message).toContain(
      'learningRate 0.01 where the checkpoint has 0.05; seed 7 where the checkpoint has 42',
    )
    const data = await failure(runTask(folder, { identity: { ...identity, data: 'other-data' } }))
    expect(data.message).toContain('data other-data where the checkpoint has pairs-7')
    const length = await failure(runTask(folder, { data: { train: makePairs(16) } }))
    expect(length.message).toContain('16 micro-batches per epoch where the checkpoint has 21')
  })

  it('goes on under changed options where that is asked for', async () => {
    const folder = await stopped()
    const { result, warnings } = await runTask(folder, { options: { numTrainEpochs: 3, acceptChangedOptions: true } })
    expect(result).toMatchObject({ status: 'finished', step: 18 })
    expect(warnings).toEqual(['option changed since the checkpoint: numTrainEpochs 3 where the checkpoint has 2'])
  })

  it('stays in the folder that a forced restart puts aside', async () => {
    const folder = await stopped()
    const { result } = await runTask(folder, {
      identity: { ...identity, model: 'other' },
      options: { forceRestart: true },
    })
    expect(result).toMatchObject({ status: 'finished', step: 12 })
    expect(await readdir(join(folder, 'results-old-1'))).toContain('checkpoint-7')
    await runTask(folder, { options: { forceRestart: true } })
    expect(await readdir(folder)).toEqual(
      expect.arrayContaining(['results-old-1', 'results-old-2', 'final_model-old-2']),
    )
  })

  it('holds exactly what an adapter file of another precision cannot', async () => {
    const rounding: typeof saveAdapter = async (folder, weights, purpose) => {
      const rounded = new Map([...weights].slice(0, 1))
      await saveAdapter(folder, rounded, purpose)
    }
    const whole = await temporaryFolder()
    await runTask(whole, { saveAdapter: rounding })
    const folder = await temporaryFolder()
    await runTask(folder, { saveAdapter: rounding, stopWhen: (e) => e.type === 'step' && e.record.step === 7 })
    expect(await tensorNames(join(folder, 'results', 'checkpoint-7', 'optimizer.safetensors'))).toContain(
      'adapter/base_model.model.lm_head.lora_B.weight',
    )
    await runTask(folder, { saveAdapter: rounding })
    expect(await outcomeOf(folder, 'checkpoint-12')).toEqual(await outcomeOf(whole, 'checkpoint-12'))
  })

  it('can be looked at before anything is loaded', async () => {
    const folder = await temporaryFolder()
    expect(await inspectRun(folder)).toMatchObject({ state: 'none', step: 0, sources: null })
    const sources = ['a.json', 'b.json']
    await runTask(folder, { sources, stopWhen: (e) => e.type === 'progress' && e.step === 2 && e.done === 3 })
    expect(await inspectRun(folder)).toMatchObject({ state: 'unfinished', step: 2, totalSteps: 12, sources, identity })
    await runTask(folder, { sources })
    expect(await inspectRun(folder)).toMatchObject({ state: 'finished', step: 12, sources })
  })
})

describe('the number of checkpoints', () => {
  const checkpointsOf = async (folder: string): Promise<string[]> =>
    (await readdir(join(folder, 'results'))).filter((name) => name.startsWith('checkpoint')).sort()

  it('is unlimited by default and limited by saveTotalLimit', async () => {
    const all = await temporaryFolder()
    await runTask(all, { options: { saveSteps: 5 } })
    expect(await checkpointsOf(all)).toEqual(['checkpoint-10', 'checkpoint-12', 'checkpoint-5'])
    const limited = await temporaryFolder()
    await runTask(limited, { options: { saveSteps: 2, saveTotalLimit: 2 } })
    expect(await checkpointsOf(limited)).toEqual(['checkpoint-10', 'checkpoint-12'])
  })

  it('spares the best one, which becomes the final model', async () => {
    const folder = await temporaryFolder()
    const options = { loadBestModelAtEnd: true, saveTotalLimit: 1, saveSteps: 5, evalSteps: 2 }
    const { result } = await runTask(folder, { step: makeWorseningStep(5, 2), options })
    expect(result.status).toBe('finished')
    expect(await checkpointsOf(folder)).toEqual(['checkpoint-12', 'checkpoint-4'])
    const finalBytes = await readFile(join(folder, 'final_model', 'adapter_model.safetensors'))
    const bestBytes = await readFile(join(folder, 'results', 'checkpoint-4', 'adapter_model.safetensors'))
    expect(finalBytes.equals(bestBytes)).toBe(true)
  })
})
