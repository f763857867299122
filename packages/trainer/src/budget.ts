/** What the budget measures: the pieces of work between which a run can stop. */
export type WorkKind = 'microStep' | 'update' | 'evaluate' | 'save'

const kinds = ['microStep', 'update', 'evaluate', 'save'] as const satisfies readonly WorkKind[]

/** Seconds that a piece of each kind took in an earlier segment, or in this one. */
export type WorkSeconds = Partial<Record<WorkKind, number>>

export interface BudgetOptions {
  /** Null for no limit. */
  readonly limitSeconds: number | null
  /** Seconds since the start of the process, from a monotonic clock: changes of the wall clock do not matter. */
  readonly elapsed?: () => number
  /** Measurements of the segment before. */
  readonly earlier?: WorkSeconds
}

/** A save whose time nobody has measured yet is taken to last a minute, or a tenth of the budget if that is less. */
const unknownSaveSeconds = 60
const unknownSaveShare = 0.1
/** How many measurements of a kind are remembered: the slowest of them is expected next. */
const remembered = 16
/** Work is expected to take this much longer than the slowest remembered. */
const caution = 1.2
/** For what comes after the save (logs, report): 2% of the budget, at most this. */
const reserveSeconds = 10

/** Decides whether another piece of work and the save after it still fit into the time that a run has. */
export class TimeBudget {
  readonly limitSeconds: number | null
  private readonly clock: () => number
  private readonly measured = new Map<WorkKind, number[]>()
  private worked = false

  constructor(options: BudgetOptions) {
    this.limitSeconds = options.limitSeconds
    this.clock = options.elapsed ?? ((): number => process.uptime())
    for (const kind of kinds) {
      const seconds = options.earlier?.[kind]
      this.measured.set(kind, seconds === undefined ? [] : [seconds])
    }
  }

  get elapsedSeconds(): number {
    return this.clock()
  }

  /** Seconds left, never negative; infinite without a limit. */
  get remainingSeconds(): number {
    return this.limitSeconds === null ? Infinity : Math.max(0, this.limitSeconds - this.clock())
  }

  /** Whether any work was measured in this segment. */
  get hasWorked(): boolean {
    return this.worked
  }

  record(kind: WorkKind, seconds: number): void {
    const list = this.measured.get(kind) ?? []
    list.push(seconds)
    if (list.length > remembered) list.shift()
    this.measured.set(kind, list)
    if (kind !== 'save') this.worked = true
  }

  /** Seconds that a piece of work is expected to take: the slowest remembered one and a fifth more. */
  expected(kind: WorkKind): number {
    const list = this.measured.get(kind) ?? []
    if (list.length > 0) return caution * Math.max(...list)
    return kind === 'save' ? Math.min(unknownSaveSeconds, unknownSaveShare * (this.limitSeconds ?? 0)) : 0
  }

  /** Whether a piece of work of these kinds, a save and the closing of the run fit into what is left. */
  allows(...work: readonly WorkKind[]): boolean {
    if (this.limitSeconds === null) return true
    const needed = [...work, 'save' as const].reduce((sum, kind) => sum + this.expected(kind), 0)
    const reserve = Math.min(reserveSeconds, 0.02 * this.limitSeconds)
    return this.clock() + needed + reserve <= this.limitSeconds
  }

  /** The slowest remembered time of each kind, for the next segment. */
  measurements(): WorkSeconds {
    const found: WorkSeconds = {}
    for (const [kind, list] of this.measured) if (list.length > 0) found[kind] = Math.max(...list)
    return found
  }
}
