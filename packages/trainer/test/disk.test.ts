import { copyFile, readdir, rm, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { outcomeOf, runTask, temporaryFolder } from './support/runs.js'
import { saveAdapter } from './support/task.js'

/** Linux gives "no space left" for every write to this device. */
const fullDevice = '/dev/full'

describe.runIf(process.platform === 'linux')('a disk that is full', () => {
  it('while a checkpoint is written ends the run with one line; the checkpoint before is whole and named', async () => {
    const whole = await temporaryFolder()
    await runTask(whole)
    const folder = await temporaryFolder()
    let saves = 0
    const failing: typeof saveAdapter = async (target, weights, purpose) => {
      await saveAdapter(target, weights, purpose)
      if (++saves === 3) await writeFile(fullDevice, 'one byte too many')
    }
    const run = runTask(folder, { saveAdapter: failing })
    await expect(run).rejects.toMatchObject({ code: 'MIRASTRAL_DISK_FULL', exitCode: 1 })
    const message = await run.catch((error: unknown) => (error as Error).message)
    expect(message).toContain('checkpoint-9: no space left on the device (ENOSPC)')
    expect(message).toContain(`training resumes from ${join(folder, 'results', 'checkpoint-6')}`)
    expect(message).not.toContain('\n')
    const names = await readdir(join(folder, 'results'))
    expect(names.filter((name) => name.includes('checkpoint')).sort()).toEqual(['checkpoint-3', 'checkpoint-6'])
    await runTask(folder)
    expect(await outcomeOf(folder, 'checkpoint-12')).toEqual(await outcomeOf(whole, 'checkpoint-12'))
  })

  it('while the final model is written leaves only that to do', async () => {
    const folder = await temporaryFolder()
    const failing: typeof saveAdapter = async (target, weights, purpose) => {
      await saveAdapter(target, weights, purpose)
      if (purpose === 'final') await writeFile(fullDevice, 'x')
    }
    await expect(runTask(folder, { saveAdapter: failing })).rejects.toMatchObject({ code: 'MIRASTRAL_DISK_FULL' })
    expect(await readdir(folder)).not.toContain('final_model')
    const never = (): Promise<never> => Promise.reject(new Error('must not be asked for'))
    const { result } = await runTask(folder, { step: never, data: never })
    expect(result).toMatchObject({ status: 'finished', step: 12 })
  })

  it('while a log is written ends the run, and a later run continues the log', async () => {
    const whole = await temporaryFolder()
    await runTask(whole)
    const folder = await temporaryFolder()
    await runTask(folder, { stopWhen: (e) => e.type === 'step' && e.record.step === 4 })
    const log = join(folder, 'results', 'train.jsonl')
    await copyFile(log, `${log}.kept`)
    await rm(log)
    await symlink(fullDevice, log)
    await expect(runTask(folder)).rejects.toMatchObject({ code: 'MIRASTRAL_DISK_FULL' })
    await rm(log)
    await copyFile(`${log}.kept`, log)
    await runTask(folder)
    expect(await outcomeOf(folder, 'checkpoint-12')).toEqual(await outcomeOf(whole, 'checkpoint-12'))
  })
})

describe('an output folder that cannot be written', () => {
  it('is an error before anything is loaded', async () => {
    const file = join(await temporaryFolder(), 'file')
    await writeFile(file, '')
    const never = (): Promise<never> => Promise.reject(new Error('must not be asked for'))
    const run = runTask(join(file, 'out'), { step: never, data: never })
    await expect(run).rejects.toMatchObject({ code: 'MIRASTRAL_OUTPUT_UNWRITABLE', exitCode: 2 })
  })
})
