import { join } from 'node:path'
import { serveDashboard } from './dashboard.js'
import { writeError } from './errors.js'
import type { Checkpoint } from './checkpoint.js'
import type { Speed, TrainerEvents } from './events.js'
import type { LogLengths, MetricLogs } from './metrics.js'
import type { ReportData, ReportSource } from './report/data.js'
import { readReportData } from './report/data.js'
import { writeReport } from './report/write.js'
import type { Evaluation, StepRecord } from './state.js'
import { TensorBoardWriter } from './tensorboard.js'

/**
 * Writes the records of a run into TensorBoard event files, from where `before` leaves it. What an earlier process wrote of
 * that step and of later ones is withdrawn, and what the checkpoint knows of that step is written again: a process that was
 * killed after an evaluation leaves nothing twice. Trouble with the files is a warning and never ends the run.
 * Returns the function that closes the file.
 */
export async function recordForTensorBoard(
  results: string,
  { logs, before }: { readonly logs: MetricLogs; readonly before: Checkpoint | null },
  events: TrainerEvents,
): Promise<() => Promise<void>> {
  const folder = join(results, 'tensorboard')
  const warn = (error: unknown): void => {
    const said = writeError(error, `TensorBoard events in ${folder}`)
    events.emit({ type: 'warning', message: said instanceof Error ? said.message : String(said) })
  }
  const firstStep = before === null ? 0 : before.saved.state.startStep + before.saved.state.step
  let writer: TensorBoardWriter
  try {
    writer = await TensorBoardWriter.open(folder, firstStep)
    if (before !== null) await writeAgain(writer, logs, before.saved.logs, firstStep)
  } catch (error) {
    warn(error)
    return () => Promise.resolve()
  }
  const remove = events.onAny((event) => {
    if (event.type === 'step')
      writer.add(event.record.step, { ...scalarsOfStep(event.record), ...scalarsOfSpeed(event.speed) })
    else if (event.type === 'evaluate') writer.add(event.evaluation.step, scalarsOfEvaluation(event.evaluation))
  })
  return async () => {
    remove()
    const failure = await writer.close()
    if (failure) warn(failure)
  }
}

async function writeAgain(
  writer: TensorBoardWriter,
  logs: MetricLogs,
  lengths: LogLengths,
  step: number,
): Promise<void> {
  const known = async <T extends { readonly step: number }>(log: keyof LogLengths): Promise<T[]> => {
    const records = (await logs.records(log, lengths[log])) as T[]
    return records.filter((record) => record.step === step)
  }
  for (const record of await known<StepRecord>('train')) writer.add(step, scalarsOfStep(record))
  for (const record of await known<Speed & { step: number }>('speed')) writer.add(step, scalarsOfSpeed(record))
  for (const record of await known<Evaluation>('eval')) writer.add(step, scalarsOfEvaluation(record))
}

type Scalars = Record<string, number>

function scalarsOfStep({ loss, gradNorm, learningRate, epoch, metrics }: StepRecord): Scalars {
  const scalars: Scalars = { 'train/learning_rate': learningRate, 'train/epoch': epoch }
  if (loss !== null) scalars['train/loss'] = loss
  if (gradNorm !== null) scalars['train/grad_norm'] = gradNorm
  for (const [name, value] of Object.entries(metrics ?? {})) scalars[`train/${name}`] = value
  return scalars
}

const scalarsOfSpeed = ({ tokensPerSecond, residentBytes }: Speed): Scalars => ({
  'speed/tokens_per_second': tokensPerSecond,
  'memory/resident_bytes': residentBytes,
})

function scalarsOfEvaluation({ evalLoss, evalPerplexity, evalTokenAccuracy, metrics }: Evaluation): Scalars {
  const more = Object.entries(metrics ?? {}).map(([name, value]) => [`eval/${name}`, value] as const)
  return {
    'eval/loss': evalLoss,
    ...(evalPerplexity !== undefined && { 'eval/perplexity': evalPerplexity }),
    'eval/token_accuracy': evalTokenAccuracy,
    ...Object.fromEntries(more),
  }
}

type Where = Pick<ReportData, 'status' | 'message' | 'step' | 'totalSteps'>

/** Keeps what the head of a report says up to date with a run. */
function followPlace(events: TrainerEvents): { where: Where; remove: () => void } {
  const where = { status: 'running', message: 'training', step: 0, totalSteps: 0 }
  const remove = events.onAny((event) => {
    if (event.type === 'start') [where.step, where.totalSteps] = [event.step, event.totalSteps]
    else if (event.type === 'step') where.step = event.record.step
    else if (event.type === 'stop')
      [where.status, where.message, where.step] = [event.status, event.message, event.step]
  })
  return { where, remove }
}

/** Writes the report when the returned function is called. Trouble with it is a warning. */
export function followForReport(path: string, source: ReportSource, events: TrainerEvents): () => Promise<void> {
  const { where, remove } = followPlace(events)
  return async () => {
    remove()
    // Without a stop event the segment ended in an error, which the process reports.
    const status = where.status === 'running' ? { status: 'failed', message: 'ended by an error' } : {}
    try {
      await writeReport(path, source, { ...where, ...status })
    } catch (error) {
      const said = writeError(error, `report ${path}`)
      events.emit({ type: 'warning', message: said instanceof Error ? said.message : String(said) })
    }
  }
}

/** Serves the report while the run goes, and tells where. */
export async function openDashboard(
  port: number,
  source: ReportSource,
  events: TrainerEvents,
): Promise<() => Promise<void>> {
  const { where, remove } = followPlace(events)
  const dashboard = await serveDashboard({ port, events, readData: () => readReportData(source, where) })
  events.emit({ type: 'dashboard', url: dashboard.url })
  return async () => {
    remove()
    await dashboard.close()
  }
}
