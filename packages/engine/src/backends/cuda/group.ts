import type { BufferId } from '../../planner/plan.js'
import { touched, type Launch, type LaunchGroup } from './command.js'
import type { CudaStep } from './lower.js'

/** Rows of the kernels' tables (GROUP in common.cuh): within the 4 KB that every driver takes as parameters. */
const MAX_ROWS = 32

interface Grouped extends Launch {
  readonly group: LaunchGroup
}

const groupOf = ({ command }: CudaStep): Grouped | null =>
  command.kind === 'launch' && command.group ? (command as Grouped) : null

const sameKind = (a: Grouped, b: Grouped): boolean =>
  a.group.entry === b.group.entry &&
  a.block === b.block &&
  JSON.stringify([a.source, a.group.rest]) === JSON.stringify([b.source, b.group.rest])

/**
 * Joins runs of small launches of one kind, such as the optimizer steps of all adapters, into launches over a table of
 * tensors: what they do is too little to fill the device one by one.
 */
export function groupLaunches(steps: readonly CudaStep[]): CudaStep[] {
  const result: CudaStep[] = []
  let run: CudaStep[] = []
  const touchedBefore: Touched = { reads: new Set(), writes: new Set(), places: new Set() }
  const flush = (): void => {
    if (run.length > 0) result.push(join(run))
    run = []
    touchedBefore.reads.clear()
    touchedBefore.writes.clear()
    touchedBefore.places.clear()
  }
  for (const step of steps) {
    const launch = groupOf(step)
    const first = run.length > 0 ? groupOf(run[0]) : null
    const fits =
      launch && (!first || (run.length < MAX_ROWS && sameKind(first, launch) && independent(step, touchedBefore)))
    if (!fits) flush()
    if (!launch) {
      result.push(step)
      continue
    }
    run.push(step)
    step.reads.forEach((id) => touchedBefore.reads.add(id))
    step.writes.forEach((id) => touchedBefore.writes.add(id))
    placesWritten(step).forEach((place) => touchedBefore.places.add(place))
  }
  flush()
  return result
}

/** What the rows of a launch touch; they may write different parts of one buffer. */
interface Touched {
  readonly reads: Set<BufferId>
  readonly writes: Set<BufferId>
  readonly places: Set<string>
}

const placesWritten = ({ command }: CudaStep): string[] =>
  command.kind === 'launch'
    ? command.args.flatMap((a) => (a.kind === 'out' && a.ref ? [`${a.ref.buffer} ${a.ref.offset}`] : []))
    : []

/** Rows of one launch run in any order. */
const independent = (step: CudaStep, before: Touched): boolean =>
  !step.reads.some((id) => before.writes.has(id)) &&
  !step.writes.some((id) => before.reads.has(id)) &&
  !placesWritten(step).some((place) => before.places.has(place))

function join(run: readonly CudaStep[]): CudaStep {
  const launches = run.map(groupOf).filter((launch) => launch !== null)
  const [first] = launches
  if (run.length === 1 || !first) return run[0]
  const rows = launches.map((launch) => launch.group.row)
  const command: Launch = {
    kind: 'launch',
    source: first.source,
    entry: first.group.entry,
    grid: [Math.max(...launches.map((launch) => launch.grid[0])), run.length, 1],
    block: first.block,
    sharedBytes: 0,
    args: [{ kind: 'table', entries: rows.flat(), slots: MAX_ROWS * rows[0].length }, ...first.group.rest],
  }
  return {
    label: `${run[0].label} and ${run.length - 1} more`,
    op: run[0].op,
    command,
    ...touched(command),
    inPlace: run.flatMap((s) => s.inPlace),
  }
}
