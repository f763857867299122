import { randomUUID } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { link, open, readFile, stat, unlink, writeFile } from 'node:fs/promises'
import { hostname } from 'node:os'
import { DataError, errorCodeOf } from '../errors.js'
import { ledgerError } from './journal.js'

/** A takeover takes milliseconds; one that is older was left by a killed program. */
const MAX_TAKEOVER_MS = 10_000

interface Holder {
  pid: number
  /** Tells a process from a later one with the same number. */
  startedAt: string
  host: string
  since: string
  token: string
}

/** A held lock. */
export interface Lock {
  /** Gives the lock back. May be called more than once. */
  release(): Promise<void>
}

/**
 * Takes `path` as a lock file, which is created exclusively and names its holder. The lock of a process of this host that no
 * longer exists is taken over.
 *
 * @throws DataError MIRASTRAL_LEDGER_LOCKED where another run holds it.
 */
export async function acquireLock(path: string): Promise<Lock> {
  const own: Holder = {
    pid: process.pid,
    startedAt: startOf(process.pid),
    host: hostname(),
    since: new Date().toISOString(),
    token: randomUUID(),
  }
  if (!(await create(path, own))) {
    await takeOver(path)
    if (!(await create(path, own))) throw lockedError(path, await readHolder(path))
  }
  return {
    release: async () => {
      const holder = await readHolder(path)
      if (holder?.token === own.token) await unlink(path).catch(() => undefined)
    },
  }
}

/** Removes a lock whose holder is gone; a second lock keeps two runs from doing so at once. */
async function takeOver(path: string): Promise<void> {
  const guard = `${path}.takeover`
  const age = await stat(guard).then(
    ({ mtimeMs }) => Date.now() - mtimeMs,
    () => 0,
  )
  if (age > MAX_TAKEOVER_MS) await unlink(guard).catch(() => undefined)
  const file = await open(guard, 'wx').catch(() => null)
  if (file === null) throw lockedError(path, await readHolder(path))
  try {
    const holder = await readHolder(path)
    if (holder !== null && isAlive(holder)) throw lockedError(path, holder)
    await unlink(path).catch(() => undefined)
  } finally {
    await file.close()
    await unlink(guard).catch(() => undefined)
  }
}

/** The file appears with its content: it is written under another name, and linked. */
async function create(path: string, holder: Holder): Promise<boolean> {
  const draft = `${path}.${holder.token}`
  try {
    await writeFile(draft, JSON.stringify(holder), { mode: 0o600 })
    await link(draft, path)
    return true
  } catch (error) {
    if (errorCodeOf(error) === 'EEXIST') return false
    throw ledgerError(`${path} cannot be created (${errorCodeOf(error)}); choose a folder that can be written to`)
  } finally {
    await unlink(draft).catch(() => undefined)
  }
}

async function readHolder(path: string): Promise<Holder | null> {
  try {
    return JSON.parse(await readFile(path, 'utf8')) as Holder
  } catch {
    return null
  }
}

function isAlive({ pid, host, startedAt }: Holder): boolean {
  if (host !== hostname()) return true
  try {
    process.kill(pid, 0)
  } catch (error) {
    return errorCodeOf(error) === 'EPERM'
  }
  return startedAt === startOf(pid)
}

/** When a process was started, in the kernel's clock ticks; empty where the system does not say. */
function startOf(pid: number): string {
  try {
    const status = readFileSync(`/proc/${pid}/stat`, 'latin1')
    // The name in parentheses may hold spaces; the start is the twentieth field after it.
    return status.slice(status.lastIndexOf(')') + 2).split(' ')[19] ?? ''
  } catch {
    return ''
  }
}

function lockedError(path: string, holder: Holder | null): DataError {
  const who = holder === null ? 'another run' : `process ${holder.pid} on ${holder.host} since ${holder.since}`
  return new DataError(
    'MIRASTRAL_LEDGER_LOCKED',
    `ledger: ${who} holds ${path}; wait for that run, or delete the file if it no longer exists`,
  )
}
