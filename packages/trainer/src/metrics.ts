import { open, readFile, stat, truncate } from 'node:fs/promises'
import { join } from 'node:path'
import { systemErrorCode, writeError } from './errors.js'
import { flush } from './files.js'
import { parseJson } from './manifest.js'

/**
 * The logs of an output folder, one JSON object per line. `train` and `eval` hold only what a resumed run reproduces bit for
 * bit; `speed` and `segments` hold times and memory. A checkpoint records the lengths of the first three, and resuming
 * cuts them back to it: what a killed run had logged beyond its last checkpoint is logged again, once.
 */
export const logFiles = {
  train: 'train.jsonl',
  eval: 'eval.jsonl',
  speed: 'speed.jsonl',
  segments: 'segments.jsonl',
} as const

export type LogName = keyof typeof logFiles
export type LogLengths = Readonly<Record<Exclude<LogName, 'segments'>, number>>

const followed = ['train', 'eval', 'speed'] as const

export class MetricLogs {
  constructor(private readonly folder: string) {}

  /** Appends one line. */
  async append(log: LogName, record: object): Promise<void> {
    const path = this.path(log)
    try {
      const handle = await open(path, 'a')
      try {
        await handle.writeFile(`${JSON.stringify(record)}\n`)
      } finally {
        await handle.close()
      }
    } catch (error) {
      throw writeError(error, `log ${path}`, 'Training resumes from the last checkpoint.')
    }
  }

  /** Flushes the logs and returns their lengths in bytes: a checkpoint never knows more than is on the disk. */
  async flushedLengths(): Promise<LogLengths> {
    const lengths = { train: 0, eval: 0, speed: 0 }
    for (const log of followed) {
      lengths[log] = await this.size(log)
      if (lengths[log] > 0) await flush(this.path(log))
    }
    return lengths
  }

  /**
   * Cuts the logs back to the lengths that a checkpoint recorded (0 for none). Returns what was found wrong with them: training
   * needs no log, but whoever reads them must know.
   */
  async cutBack(lengths: LogLengths): Promise<string[]> {
    const problems: string[] = []
    for (const log of followed) {
      const size = await this.size(log)
      if (size < lengths[log]) {
        problems.push(`log ${log}: is shorter than the checkpoint knew; lines are missing`)
        await this.repair(log)
      } else if (size > lengths[log]) await truncate(this.path(log), lengths[log])
      const { unreadable } = await this.parse(log)
      if (unreadable > 0)
        problems.push(
          `log ${log}: ${unreadable} damaged ${unreadable === 1 ? 'line is' : 'lines are'} left out of reports`,
        )
    }
    return problems
  }

  /** Ends a line that a kill left torn, so that the next one begins on a line of its own. For logs never cut back. */
  async repair(log: LogName): Promise<void> {
    const bytes = await this.read(log)
    const end = bytes.lastIndexOf(0x0a) + 1
    if (end < bytes.length) await truncate(this.path(log), end)
  }

  /** All whole records of a log, or of its first `length` bytes; damaged lines are left out. */
  async records(log: LogName, length = Infinity): Promise<unknown[]> {
    return (await this.parse(log, length)).records
  }

  private async parse(log: LogName, length = Infinity): Promise<{ records: unknown[]; unreadable: number }> {
    const bytes = await this.read(log)
    const text = bytes.toString('utf8', 0, Math.min(length, bytes.length))
    const lines = text.slice(0, text.lastIndexOf('\n') + 1).split('\n')
    const parsed = lines.filter((line) => line !== '').map(parseJson)
    const records = parsed.filter((record) => typeof record === 'object' && record !== null)
    return { records, unreadable: parsed.length - records.length }
  }

  private path(log: LogName): string {
    return join(this.folder, logFiles[log])
  }

  private async size(log: LogName): Promise<number> {
    try {
      return (await stat(this.path(log))).size
    } catch (error) {
      if (systemErrorCode(error) === 'ENOENT') return 0
      throw error
    }
  }

  private async read(log: LogName): Promise<Buffer> {
    try {
      const path = this.path(log)
      // A device in its place might never end.
      return (await stat(path)).isFile() ? await readFile(path) : Buffer.alloc(0)
    } catch (error) {
      if (systemErrorCode(error) === 'ENOENT') return Buffer.alloc(0)
      throw error
    }
  }
}
