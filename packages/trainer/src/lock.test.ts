import { spawn } from 'node:child_process'
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { hostname, tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { describe, expect, it, onTestFinished } from 'vitest'
import { lockFileName, lockOutput } from './lock.js'

const newFolder = async (): Promise<string> => {
  const folder = await mkdtemp(join(tmpdir(), 'mirastral-lock-'))
  onTestFinished(() => rm(folder, { recursive: true, force: true }))
  return folder
}

const holder = {
  token: 'other',
  pid: process.pid,
  host: hostname(),
  processStart: null as string | null,
  startedAt: '2026-01-01T00:00:00.000Z',
  beat: 3,
}

/** The id of a process that has ended. */
const deadPid = async (): Promise<number> => {
  const child = spawn(process.execPath, ['--version'], { stdio: 'ignore' })
  await new Promise((resolve) => child.on('exit', resolve))
  return child.pid ?? 0
}

const plant = async (change: Partial<typeof holder>): Promise<string> => {
  const folder = await newFolder()
  await writeFile(join(folder, lockFileName), JSON.stringify({ ...holder, ...change }))
  return folder
}

describe('the lock of an output folder', () => {
  it('is held by one run at a time, and the second one is told by whom', async () => {
    const folder = await newFolder()
    const lock = await lockOutput(folder)
    const second = lockOutput(folder)
    await expect(second).rejects.toMatchObject({ code: 'MIRASTRAL_OUTPUT_LOCKED', exitCode: 2 })
    await expect(second).rejects.toThrow(`process ${process.pid} on ${hostname()}`)
    await lock.release()
    const third = await lockOutput(folder)
    expect(third.tookOver).toBeNull()
    await third.release()
    expect(await readdir(folder)).toEqual([])
  })

  it('makes the folder that it locks', async () => {
    const folder = join(await newFolder(), 'a', 'b')
    const lock = await lockOutput(folder)
    expect(await readdir(folder)).toEqual([lockFileName])
    await lock.release()
  })

  it('of a dead process is taken over', async () => {
    const pid = await deadPid()
    const folder = await plant({ pid })
    const lock = await lockOutput(folder)
    expect(lock.tookOver).toBe(`process ${pid} on ${hostname()}, which is gone`)
    await lock.release()
  })

  it('of an earlier process with the same id is taken over', async () => {
    const folder = await plant({ processStart: '1' })
    const lock = await lockOutput(folder)
    expect(lock.tookOver).toContain('which is gone')
    await lock.release()
  })

  it('of another machine is respected while it beats, and taken over once it is silent', async () => {
    const folder = await plant({ host: 'node-17', pid: 1 })
    let beat = 4
    const beating = setInterval(() => {
      void writeFile(join(folder, lockFileName), JSON.stringify({ ...holder, host: 'node-17', pid: 1, beat: beat++ }))
    }, 20)
    const options = { silenceSeconds: 0.5 }
    await expect(lockOutput(folder, options)).rejects.toThrow('process 1 on node-17')
    clearInterval(beating)
    await sleep(50)
    const lock = await lockOutput(folder, options)
    expect(lock.tookOver).toBe('process 1 on node-17, which is gone')
    await lock.release()
  })

  it('that a kill left empty is taken over', async () => {
    const folder = await newFolder()
    await writeFile(join(folder, lockFileName), '')
    const lock = await lockOutput(folder)
    expect(lock.tookOver).toBe('an unreadable lock')
    await lock.release()
  })

  it('beats while it is held, and never over the lock of another', async () => {
    const folder = await newFolder()
    const path = join(folder, lockFileName)
    const lock = await lockOutput(folder, { beatSeconds: 0.02 })
    const beatOf = async (): Promise<number> => (JSON.parse(await readFile(path, 'utf8')) as typeof holder).beat
    await expect.poll(beatOf).toBeGreaterThan(2)
    await rm(path)
    await writeFile(path, JSON.stringify(holder))
    await sleep(100)
    expect(JSON.parse(await readFile(path, 'utf8'))).toEqual(holder)
    await lock.release()
    expect(await readdir(folder)).toEqual([lockFileName])
  })

  it('of a dead process goes to one of many that want it', async () => {
    const folder = await plant({ pid: await deadPid() })
    const results = await Promise.allSettled(Array.from({ length: 8 }, () => lockOutput(folder)))
    const winners = results.filter((r) => r.status === 'fulfilled').map((r) => r.value)
    expect(winners).toHaveLength(1)
    await winners[0].release()
  })

  it('says that a folder cannot be written', async () => {
    const file = join(await newFolder(), 'file')
    await writeFile(file, '')
    const error = lockOutput(join(file, 'out'))
    await expect(error).rejects.toMatchObject({ code: 'MIRASTRAL_OUTPUT_UNWRITABLE', exitCode: 2 })
    await expect(error).rejects.toThrow(/output folder .*file.out: cannot be written \(ENOTDIR\)/)
  })
})
