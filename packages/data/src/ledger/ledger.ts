import { mkdir } from 'node:fs/promises'
import { dirname } from 'node:path'
import { errorCodeOf } from '../errors.js'
import type { LedgerEntry } from './entry.js'
import { appendFingerprints, readFingerprints } from './fingerprints.js'
import type { Fingerprints } from './fingerprints.js'
import { appendJournal, ledgerError, readJournal, repairJournal } from './journal.js'
import { acquireLock } from './lock.js'
import type { Lock } from './lock.js'

/** What the ledger knows about a file. */
export type Standing = 'new' | 'processed' | 'changed' | 'failed'

/**
 * The record of every input file that has been trained on: an append-only file of JSON lines, locked while it is open.
 * Files are known by the SHA-256 of their content, so that a renamed file stays processed and a changed one does not.
 */
export class Ledger {
  readonly path: string
  /** What opening had to repair or ignore. */
  readonly found: { tornBytes: number; badLines: number }
  private readonly known: LedgerEntry[]
  private readonly lock: Lock | null

  private constructor(path: string, entries: LedgerEntry[], found: Ledger['found'], lock: Lock | null) {
    this.path = path
    this.known = entries
    this.found = found
    this.lock = lock
  }

  /**
   * Opens (or creates) a ledger and locks it until `close()`.
   *
   * @throws DataError MIRASTRAL_LEDGER_LOCKED where another run has it open, MIRASTRAL_LEDGER where it cannot be written.
   */
  static async open(path: string): Promise<Ledger> {
    await mkdir(dirname(path), { recursive: true }).catch((error: unknown) => {
      throw ledgerError(`the folder of ${path} cannot be made (${errorCodeOf(error)})`)
    })
    const lock = await acquireLock(`${path}.lock`)
    try {
      const tornBytes = await repairJournal(path)
      const { entries, badLines } = await readJournal(path)
      return new Ledger(path, entries, { tornBytes, badLines }, lock)
    } catch (error) {
      await lock.release()
      throw error
    }
  }

  /** Reads a ledger that another run may be writing: nothing is locked or repaired, and nothing can be appended. */
  static async read(path: string): Promise<Ledger> {
    const { entries, badLines, tornBytes } = await readJournal(path)
    return new Ledger(path, entries, { tornBytes, badLines }, null)
  }

  get entries(): readonly LedgerEntry[] {
    return this.known
  }

  /** The newest entry for a content that need not be read again. */
  processed(sha256: string, path: string): LedgerEntry | undefined {
    return this.known.findLast(
      (entry) =>
        entry.status !== 'failed' && (entry.sha256 === sha256 || (entry.sha256 === null && entry.path === path)),
    )
  }

  standing(sha256: string, path: string): Standing {
    if (this.processed(sha256, path) !== undefined) return 'processed'
    const last = this.known.findLast((entry) => entry.path === path)
    if (last === undefined) return 'new'
    return last.status === 'failed' && last.sha256 === sha256 ? 'failed' : 'changed'
  }

  /** Of all conversations that were trained on, some at a time; none where the ledger itself is empty or new. */
  async *fingerprints(): AsyncGenerator<Fingerprints> {
    if (this.known.length > 0) yield* readFingerprints(this.fingerprintPath)
  }

  /**
   * Records a run: first what was trained on, then the files, so that a run that is killed in between does not train on
   * anything twice.
   *
   * @throws DataError MIRASTRAL_LEDGER where the ledger was opened for reading only, or the disk is full.
   */
  async append(entries: readonly LedgerEntry[], fingerprints?: Iterable<Fingerprints>): Promise<void> {
    if (this.lock === null) throw ledgerError(`${this.path} was opened for reading; open it with Ledger.open`)
    if (entries.length === 0) return
    if (fingerprints !== undefined) {
      await appendFingerprints(this.fingerprintPath, fingerprints, this.known.length === 0)
    }
    await appendJournal(this.path, entries)
    this.known.push(...entries)
  }

  private get fingerprintPath(): string {
    return `${this.path.replace(/\.jsonl$/, '')}.fingerprints`
  }

  /** Gives the lock back. */
  async close(): Promise<void> {
    await this.lock?.release()
  }
}
