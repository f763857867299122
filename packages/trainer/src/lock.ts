import { randomUUID } from 'node:crypto'
import type { FileHandle } from 'node:fs/promises'
import { mkdir, open, readFile, rm, stat } from 'node:fs/promises'
import { hostname } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { z } from 'zod'
import { systemErrorCode, TrainerError, writeError } from './errors.js'

/** Who holds an output folder: the content of its lock file. */
const holderSchema = z.object({
  token: z.string(),
  pid: z.number().int(),
  host: z.string(),
  /** Start time of the process in kernel ticks, where the system tells: a later process may have the same id. */
  processStart: z.string().nullable(),
  startedAt: z.string(),
  /** Grows every few seconds while the holder lives: the only sign of life across machines. */
  beat: z.number().int(),
})
type Holder = z.infer<typeof holderSchema>

export interface LockOptions {
  readonly beatSeconds?: number
  /** A holder on another machine whose beat does not change for this long is taken to be dead. */
  readonly silenceSeconds?: number
}

export interface OutputLock {
  readonly path: string
  /** Says which dead process's lock was taken over, if one was. */
  readonly tookOver: string | null
  release(): Promise<void>
}

export const lockFileName = '.mirastral.lock'

/**
 * Takes an output folder for this process, creating the folder if need be. The lock of a process that is dead is taken over.
 * @throws TrainerError `MIRASTRAL_OUTPUT_LOCKED` that names the process which holds it; `MIRASTRAL_OUTPUT_UNWRITABLE`.
 */
export async function lockOutput(folder: string, options: LockOptions = {}): Promise<OutputLock> {
  const path = join(folder, lockFileName)
  const self: Holder = {
    token: randomUUID(),
    pid: process.pid,
    host: hostname(),
    processStart: (await readProcess(process.pid))?.start ?? null,
    startedAt: new Date().toISOString(),
    beat: 0,
  }
  try {
    await mkdir(folder, { recursive: true })
    const { handle, tookOver } = await acquire(path, self, options)
    return startBeating(path, handle, self, tookOver, options.beatSeconds ?? 5)
  } catch (error) {
    throw writeError(error, `output folder ${folder}`)
  }
}

interface Acquired {
  readonly handle: FileHandle
  readonly tookOver: string | null
}

async function acquire(path: string, self: Holder, options: LockOptions): Promise<Acquired> {
  const handle = await createExclusively(path, self)
  if (handle !== null) return { handle, tookOver: null }
  const holder = await readHolder(path)
  if (holder === 'absent') return acquire(path, self, options)
  if (holder !== 'torn' && (await isAlive(path, holder, options.silenceSeconds ?? 60))) {
    const who = `process ${holder.pid} on ${holder.host}, started ${holder.startedAt}`
    const message = `output folder: one run at a time, got a second one while ${who} is using it; wait for it, stop it, or choose another folder`
    throw new TrainerError('MIRASTRAL_OUTPUT_LOCKED', message)
  }
  await removeStale(path, holder)
  const tookOver = holder === 'torn' ? 'an unreadable lock' : `process ${holder.pid} on ${holder.host}, which is gone`
  return { ...(await acquire(path, self, options)), tookOver }
}

/** Null if there is such a file. */
async function createExclusively(path: string, holder: Holder): Promise<FileHandle | null> {
  let handle: FileHandle
  try {
    handle = await open(path, 'wx')
  } catch (error) {
    if (systemErrorCode(error) === 'EEXIST') return null
    throw error
  }
  try {
    await writeHolder(handle, holder)
    return handle
  } catch (error) {
    await handle.close()
    await rm(path, { force: true })
    throw error
  }
}

/** Of one length whatever the beat, so that it can be written over. */
async function writeHolder(handle: FileHandle, holder: Holder): Promise<void> {
  await handle.write(JSON.stringify(holder).padEnd(512), 0)
  await handle.datasync()
}

/** Between its creation and its first write a lock is empty for a moment: it counts as torn only if it stays so. */
async function readHolder(path: string): Promise<Holder | 'absent' | 'torn'> {
  for (let attempt = 0; attempt < 10; attempt++) {
    try {
      const parsed = holderSchema.safeParse(JSON.parse(await readFile(path, 'utf8')))
      if (parsed.success) return parsed.data
    } catch (error) {
      if (systemErrorCode(error) === 'ENOENT') return 'absent'
      if (!(error instanceof SyntaxError)) throw error
    }
    await sleep(50)
  }
  return 'torn'
}

async function isAlive(path: string, holder: Holder, silenceSeconds: number): Promise<boolean> {
  if (holder.host === hostname()) {
    if (!processExists(holder.pid)) return false
    const now = await readProcess(holder.pid)
    if (now === null || holder.processStart === null) return true
    return now.state !== 'Z' && now.state !== 'X' && now.start === holder.processStart
  }
  const deadline = performance.now() + 1000 * silenceSeconds
  while (performance.now() < deadline) {
    await sleep(Math.min(1000, (1000 * silenceSeconds) / 10))
    const now = await readHolder(path)
    if (now === 'absent') return false
    if (now !== 'torn' && (now.beat !== holder.beat || now.token !== holder.token)) return true
  }
  return false
}

/** A takeover lasts milliseconds; a guard older than this was left by a process that died inside one. */
const guardSeconds = 10

/** Removes a stale lock unless it has changed hands since. A guard file lets one process at a time do so. */
async function removeStale(path: string, stale: Holder | 'torn'): Promise<void> {
  const guard = `${path}.takeover`
  let handle = await createExclusively(guard, emptyHolder)
  for (; handle === null; handle = await createExclusively(guard, emptyHolder)) {
    const age = await stat(guard).then(
      (s) => (Date.now() - s.mtimeMs) / 1000,
      () => 0,
    )
    if (age > guardSeconds) await rm(guard, { force: true })
    await sleep(50)
  }
  try {
    const now = await readHolder(path)
    const unchanged =
      now === 'torn' ? stale === 'torn' : now !== 'absent' && stale !== 'torn' && now.token === stale.token
    if (unchanged) await rm(path, { force: true })
  } finally {
    await handle.close()
    await rm(guard, { force: true })
  }
}

const emptyHolder: Holder = { token: '', pid: 0, host: '', processStart: null, startedAt: '', beat: 0 }

/**
 * Beats go through the handle that the file was made with: should another process have taken the lock over from this one
 * while it was suspended, they reach the removed file and not the other's.
 */
function startBeating(
  path: string,
  handle: FileHandle,
  self: Holder,
  tookOver: string | null,
  beatSeconds: number,
): OutputLock {
  let released = false
  let writing: Promise<void> = Promise.resolve()
  const beat = async (): Promise<void> => {
    if (released) return
    self.beat++
    // A beat that cannot be written (a full disk) must not end the run; the save that follows says what is wrong.
    await writeHolder(handle, self).catch(() => undefined)
  }
  const timer = setInterval(() => {
    writing = writing.then(beat)
  }, 1000 * beatSeconds)
  timer.unref()
  return {
    path,
    tookOver,
    release: async () => {
      if (released) return
      released = true
      clearInterval(timer)
      await writing
      await handle.close()
      const holder = await readHolder(path)
      if (holder !== 'absent' && holder !== 'torn' && holder.token === self.token) await rm(path, { force: true })
    },
  }
}

function processExists(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    return systemErrorCode(error) === 'EPERM'
  }
}

/** State and start time of a process: fields 3 and 22 of Linux's /proc/<pid>/stat (proc_pid_stat(5)); null elsewhere. */
async function readProcess(pid: number): Promise<{ state: string; start: string } | null> {
  try {
    const text = await readFile(`/proc/${pid}/stat`, 'latin1')
    // The second field is the program's name in parentheses and may contain spaces.
    const fields = text.slice(text.lastIndexOf(')') + 2).split(' ')
    const [state, start] = [fields[0], fields[19]]
    return state === undefined || start === undefined ? null : { state, start }
  } catch {
    return null
  }
}
