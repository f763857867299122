import { join } from 'node:path'
import { serveDashboard } from './dashboard.js'
import { writeError } from './errors.js'
import type { TrainerEvents } from './events.js'
import type { ReportData, ReportSource } from './report/data.js'
import { readReportData } from './report/data.js'
import { writeReport } from './report/write.js'
import { TensorBoardWriter } from './tensorboard.js'

/**
 * Writes the records of a run into TensorBoard event files. Trouble with them is a warning and never ends the run.
 * Returns the function that closes the file.
 */
export async function recordForTensorBoard(
  results: string,
  firstStep: number,
  events: TrainerEvents,
): Promise<() => Promise<void>> {
  const folder = join(results, 'tensorboard')
  const warn = (error: unknown): void => {
    const said = writeError(error, `TensorBoard events in ${folder}`)
    events.emit({ type: 'warning', message: said instanceof Error ? said.message : String(said) })
  }
  let writer: TensorBoardWriter
  try {
    writer = await TensorBoardWriter.open(folder, firstStep)
  } catch (error) {
    warn(error)
    return () => Promise.resolve()
  }
  const remove = events.onAny((event) => {
    if (event.type === 'step') {
      const { step, loss, gradNorm, learningRate, epoch, metrics } = event.record
      const scalars: Record<string, number> = { 'train/learning_rate': learningRate, 'train/epoch': epoch }
      if (loss !== null) scalars['train/loss'] = loss
      if (gradNorm !== null) scalars['train/grad_norm'] = gradNorm
      for (const [name, value] of Object.entries(metrics ?? {})) scalars[`train/${name}`] = value
      scalars['speed/tokens_per_second'] = event.speed.tokensPerSecond
      scalars['memory/resident_bytes'] = event.speed.residentBytes
      writer.add(step, scalars)
    } else if (event.type === 'evaluate') {
      const { step, evalLoss, evalPerplexity, evalTokenAccuracy, metrics } = event.evaluation
      const more = Object.entries(metrics ?? {}).map(([name, value]) => [`eval/${name}`, value] as const)
      writer.add(step, {
        'eval/loss': evalLoss,
        ...(evalPerplexity !== undefined && { 'eval/perplexity': evalPerplexity }),
        'eval/token_accuracy': evalTokenAccuracy,
        ...Object.fromEntries(more),
      })
    }
  })
  return async () => {
    remove()
    const failure = await writer.close()
    if (failure) warn(failure)
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
