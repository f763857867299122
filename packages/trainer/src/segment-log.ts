import { z } from 'zod'
import type { TimeBudget, WorkSeconds } from './budget.js'
import type { Checkpoint } from './checkpoint.js'
import { systemErrorCode } from './errors.js'
import type { MetricLogs } from './metrics.js'
import type { SegmentEnd } from './segment.js'
import type { StopSource } from './signals.js'
import { describeStop } from './signals.js'

const startSchema = z.object({
  event: z.literal('start'),
  at: z.string(),
  run: z.number(),
  step: z.number(),
  resumedFrom: z.string().nullable(),
  /** Seconds from the start of the process to the start of the training: loading and tokenizing. */
  loadSeconds: z.number(),
  budgetSeconds: z.number().nullable(),
})

const workSeconds = z.object({
  microStep: z.number().optional(),
  update: z.number().optional(),
  evaluate: z.number().optional(),
  save: z.number().optional(),
})

const endSchema = z.object({
  event: z.literal('end'),
  at: z.string(),
  /** `finished`, `stopped: <why>`, `diverged` or `failed: <code>`. */
  reason: z.string(),
  step: z.number().nullable(),
  elapsedSeconds: z.number(),
  measured: workSeconds,
})

const recordSchema = z.discriminatedUnion('event', [startSchema, endSchema])

/** A piece of a run from one start of the process to its end. `end` is null for one that goes on, or was killed. */
export interface Segment {
  readonly start: z.infer<typeof startSchema>
  readonly end: z.infer<typeof endSchema> | null
}

interface Recorder {
  readonly logs: MetricLogs
  readonly budget: TimeBudget
  readonly stop: StopSource
}

/** Runs a segment between two lines of `segments.jsonl`. */
export async function recordSegment(
  { logs, budget, stop }: Recorder,
  from: Checkpoint | null,
  work: () => Promise<SegmentEnd>,
): Promise<SegmentEnd> {
  await logs.repair('segments')
  await logs.append('segments', {
    event: 'start',
    at: new Date().toISOString(),
    run: from === null ? 1 : from.saved.state.run + (from.saved.state.phase === 'finished' ? 1 : 0),
    step: from === null ? 0 : from.saved.state.startStep + from.saved.state.step,
    resumedFrom: from?.name ?? null,
    loadSeconds: budget.elapsedSeconds,
    budgetSeconds: budget.limitSeconds,
  } satisfies Segment['start'])
  const end = (reason: string, step: number | null): Promise<void> =>
    logs.append('segments', {
      event: 'end',
      at: new Date().toISOString(),
      reason,
      step,
      elapsedSeconds: budget.elapsedSeconds,
      measured: budget.measurements(),
    } satisfies Segment['end'])
  try {
    const result = await work()
    const why = result.end === 'stopped' && stop.requested ? `stopped: ${describeStop(stop.requested)}` : result.end
    await end(why, result.state.startStep + result.state.step)
    return result
  } catch (error) {
    // The failure is what must be heard, also where the disk is too full for this line.
    await end(`failed: ${systemErrorCode(error) ?? 'error'}`, null).catch(() => undefined)
    throw error
  }
}

/** The segments of an output folder, oldest first. */
export async function readSegments(logs: MetricLogs): Promise<Segment[]> {
  const segments: { start: Segment['start']; end: Segment['end'] }[] = []
  for (const record of await logs.records('segments')) {
    const parsed = recordSchema.safeParse(record)
    if (!parsed.success) continue
    if (parsed.data.event === 'start') segments.push({ start: parsed.data, end: null })
    else {
      const open = segments.at(-1)
      if (open) open.end = parsed.data
    }
  }
  return segments
}

/** How long work took in the last segment that measured it: what the next one expects at first. */
export async function earlierMeasurements(logs: MetricLogs): Promise<WorkSeconds> {
  const measured = (await readSegments(logs)).map((segment) => segment.end?.measured ?? {})
  return measured.filter((m) => Object.keys(m).length > 0).at(-1) ?? {}
}
