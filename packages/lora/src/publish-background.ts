import { copyFileSync, linkSync, mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { rm } from 'node:fs/promises'
import { basename, dirname, join, resolve } from 'node:path'
import type { EvidenceInput } from './evidence.js'
import { publishAdapter } from './publish.js'
import type { PublishOptions, PublishReport } from './publish.js'
import { PUBLISHABLE } from './publish-files.js'

/** How one publication in the background ended. */
export type PublishOutcome =
  | { readonly folder: string; readonly status: 'published'; readonly report: PublishReport }
  | { readonly folder: string; readonly status: 'failed'; readonly reason: string }
  /** A newer folder came before this one's turn. */
  | { readonly folder: string; readonly status: 'superseded' }

export interface BackgroundOptions extends PublishOptions {
  /** Called once for each folder. What it throws is ignored. */
  readonly onOutcome?: (outcome: PublishOutcome) => void
}

/** What is particular to one folder. */
export interface EnqueueOptions extends Pick<PublishOptions, 'commitTitle'> {
  /** The evidence of its card, or how to gather it: asked for in the background, when the folder's turn has come. */
  readonly evidence?: EvidenceInput | (() => Promise<EvidenceInput>)
}

interface Waiting {
  readonly folder: string
  /** Hard links to the folder's files, so that they stay when the folder is removed. */
  readonly snapshot: string
  readonly options: EnqueueOptions
}

/** How the hidden folders begin that hold what is about to be published; a killed process leaves them behind. */
export const PUBLISHING_PREFIX = '.publishing-'

/**
 * Publishes adapter folders while something else goes on. Nothing here throws, and nothing waits but `finish`. One
 * folder is published at a time; of those that wait only the newest is kept.
 */
export class BackgroundPublisher {
  private readonly stop = new AbortController()
  private readonly outcomes: PublishOutcome[] = []
  private waiting: Waiting | undefined
  private working: Promise<void> | undefined

  constructor(
    private readonly repo: string,
    private readonly options: BackgroundOptions = {},
  ) {}

  /**
   * Publishes a folder as it is now, soon. It may be changed or removed afterwards.
   */
  enqueue(folder: string, options: EnqueueOptions = {}): void {
    if (this.stop.signal.aborted) return
    const { waiting } = this
    let snapshot: string
    try {
      snapshot = linkFiles(folder)
    } catch (error) {
      this.report({ folder, status: 'failed', reason: error instanceof Error ? error.message : String(error) })
      return
    }
    this.waiting = { folder, snapshot, options }
    if (waiting !== undefined) {
      this.report({ folder: waiting.folder, status: 'superseded' })
      void this.remove(waiting.snapshot)
    }
    this.working ??= this.work()
  }

  /**
   * Waits until everything is published, at most `milliseconds`; then gives up what is left. How each folder ended. A
   * second call while the first waits can only shorten the wait.
   */
  async finish(milliseconds: number): Promise<readonly PublishOutcome[]> {
    const giveUp = (): void => this.stop.abort(new Error('there was no time left'))
    // A timer cannot wait longer than this; 25 days are long enough.
    const timer = setTimeout(giveUp, Math.min(milliseconds, 2 ** 31 - 1))
    await this.working
    clearTimeout(timer)
    this.stop.abort(new Error('publishing has ended'))
    return this.outcomes
  }

  private async work(): Promise<void> {
    // Not before the caller has gone on: publishing begins with reading and hashing files.
    await new Promise((go) => setImmediate(go))
    for (let next = this.waiting; next !== undefined; next = this.waiting) {
      this.waiting = undefined
      const { folder, snapshot, options } = next
      try {
        const report = await publishAdapter(snapshot, this.repo, await this.settled(options))
        this.report({ folder, status: 'published', report })
      } catch (error) {
        this.report({ folder, status: 'failed', reason: error instanceof Error ? error.message : String(error) })
      }
      await this.remove(snapshot)
    }
    this.working = undefined
  }

  private async settled({ evidence, ...rest }: EnqueueOptions): Promise<PublishOptions> {
    const gathered = typeof evidence === 'function' ? await evidence() : evidence
    return { ...this.options, ...rest, ...(gathered && { evidence: gathered }), signal: this.stop.signal }
  }

  private report(outcome: PublishOutcome): void {
    this.outcomes.push(outcome)
    try {
      this.options.onOutcome?.(outcome)
    } catch {
      // A listener's fault must not reach the run.
    }
  }

  private async remove(snapshot: string): Promise<void> {
    try {
      await rm(snapshot, { recursive: true, force: true })
    } catch {
      // What is left are links of a hidden folder; the run goes on.
    }
  }
}

/** A hidden folder beside `folder` with hard links to what may be published of it: made at once, without copying. */
function linkFiles(folder: string): string {
  const whole = resolve(folder)
  const names = readdirSync(whole, { withFileTypes: true }).filter((e) => e.isFile() && PUBLISHABLE.includes(e.name))
  const snapshot = mkdtempSync(join(dirname(whole), `${PUBLISHING_PREFIX}${basename(whole)}-`))
  try {
    for (const { name } of names) linkOrCopy(join(whole, name), join(snapshot, name))
  } catch (error) {
    rmSync(snapshot, { recursive: true, force: true })
    throw error
  }
  return snapshot
}

/** Some file systems have no hard links. */
function linkOrCopy(from: string, to: string): void {
  try {
    linkSync(from, to)
  } catch {
    copyFileSync(from, to)
  }
}
