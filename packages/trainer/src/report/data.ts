import { availableParallelism, cpus, totalmem } from 'node:os'
import { z } from 'zod'
import type { JsonValue } from '../checkpoint.js'
import { formatBytes } from '../format.js'
import type { MetricLogs } from '../metrics.js'
import type { TrainingOptions } from '../options.js'
import { MARGIN } from '../preference.js'
import type { Segment } from '../segment-log.js'
import { readSegments } from '../segment-log.js'
import type { Evaluation, StepRecord } from '../state.js'

/** Facts that the trainer cannot know, by heading: model, adapter, data counts. Shown as they are, in this order. */
export type About = Readonly<Record<string, Readonly<Record<string, JsonValue>>>>

const speedSchema = z.object({
  run: z.number(),
  step: z.number(),
  tokensPerSecond: z.number(),
  secondsPerStep: z.number(),
  elapsedSeconds: z.number(),
  residentBytes: z.number(),
})
export type SpeedRecord = z.infer<typeof speedSchema>

/** Everything that a report shows. */
export interface ReportData {
  readonly status: string
  readonly message: string
  readonly step: number
  readonly totalSteps: number
  readonly train: readonly StepRecord[]
  readonly evaluations: readonly Evaluation[]
  readonly speeds: readonly SpeedRecord[]
  readonly segments: readonly Segment[]
  readonly options: TrainingOptions
  readonly identity: Readonly<Record<string, string>>
  readonly about: About
  readonly environment: Readonly<Record<string, string>>
  /** ISO time. */
  readonly writtenAt: string
}

/** Whether the run learned from pairs of answers. */
export const isPreference = ({ train, evaluations }: Pick<ReportData, 'train' | 'evaluations'>): boolean =>
  [...train, ...evaluations].some(({ metrics }) => metrics?.[MARGIN] !== undefined)

export interface ReportSource {
  readonly logs: MetricLogs
  readonly options: TrainingOptions
  readonly identity: Readonly<Record<string, string>>
  readonly about: About
}

/** Collects a report's data from the logs. */
export async function readReportData(
  source: ReportSource,
  where: Pick<ReportData, 'status' | 'message' | 'step' | 'totalSteps'>,
): Promise<ReportData> {
  const { logs, options, identity, about } = source
  return {
    ...where,
    train: (await logs.records('train')) as StepRecord[],
    evaluations: (await logs.records('eval')) as Evaluation[],
    speeds: (await logs.records('speed')).flatMap((record) => {
      const parsed = speedSchema.safeParse(record)
      return parsed.success ? [parsed.data] : []
    }),
    segments: await readSegments(logs),
    options,
    identity,
    about,
    environment: describeEnvironment(),
    writtenAt: new Date().toISOString(),
  }
}

function describeEnvironment(): Record<string, string> {
  return {
    node: process.version,
    system: `${process.platform} ${process.arch}`,
    processor: `${cpus()[0]?.model.trim() ?? 'unknown'} (${availableParallelism()} threads)`,
    memory: formatBytes(totalmem()),
  }
}
