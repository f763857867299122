import { mkdir } from 'node:fs/promises'
import type { BatchSource } from './batches.js'
import { TimeBudget } from './budget.js'
import type { WorkSeconds } from './budget.js'
import type { Checkpoint, JsonValue, SaveAdapter } from './checkpoint.js'
import { findNewestCheckpoint, rotateCheckpoints } from './checkpoint.js'
import { TrainerError, writeError } from './errors.js'
import type { RunStatus, TrainerCallbacks } from './events.js'
import { TrainerEvents } from './events.js'
import { removeLeftovers } from './files.js'
import { lockOutput } from './lock.js'
import { followForReport, openDashboard, recordForTensorBoard } from './observers.js'
import type { ProgressStream } from './progress.js'
import { showProgress } from './progress.js'
import type { PublishRequest } from './publishing.js'
import { publishInBackground } from './publishing.js'
import type { About } from './report/data.js'
import { MetricLogs } from './metrics.js'
import type { TrainingOptions, TrainingOptionsInput } from './options.js'
import { parseTrainingOptions } from './options.js'
import type { OutputPaths } from './results.js'
import { outputPaths, putAside, writeFinalModel, writeStatus } from './results.js'
import type { Plan, RunIdentity } from './resume.js'
import { planRun } from './resume.js'
import type { SegmentEnd } from './segment.js'
import { finalWeights, runSegment } from './segment.js'
import { earlierMeasurements, recordSegment } from './segment-log.js'
import type { StopReason } from './signals.js'
import { describeStop, installSignalHandlers, isStopError, StopSource } from './signals.js'
import type { Evaluation } from './state.js'
import type { TrainStep } from './step.js'

export interface TrainingData<B> {
  readonly train: BatchSource<B>
  readonly eval?: BatchSource<B>
}

/** A value, or how to get it once it is needed: after the lock is taken and it is known that there is something to do. */
export type Lazy<T> = T | ((context: LazyContext) => Promise<T>)

export interface LazyContext {
  readonly stop: StopSource
  readonly plan: Plan['kind']
  /** To be called once something is kept that the next start need not do again: a budget that ends here is then no error. */
  readonly progressed: () => void
}

export interface TrainRequest<B> {
  /** Where `results/`, `final_model/` and the lock go. */
  readonly outputDir: string
  readonly options?: TrainingOptionsInput
  /** What the run rests on; `data` names the training data themselves. */
  readonly identity: RunIdentity
  /** The device side. One that was made by a function is disposed of at the end, one that was passed is not. */
  readonly step: Lazy<TrainStep<B>>
  /** Null says that there is nothing to train on that was not trained on before. */
  readonly data: Lazy<TrainingData<B>> | null
  readonly saveAdapter: SaveAdapter
  /** Kept in every checkpoint and given back by `inspectRun`: the files that the run is trained on, for example. */
  readonly sources?: JsonValue
  /** For further reasons to stop and for phases outside `train`; default: a new one. */
  readonly stop?: StopSource
  readonly events?: TrainerEvents
  readonly on?: TrainerCallbacks
  /** SIGINT, SIGTERM and SIGUSR1 stop the run, saved. Default true. */
  readonly handleSignals?: boolean
  /** Where progress is shown, such as `process.stderr`: a live line on a terminal, else log lines. Default: nowhere. */
  readonly progress?: ProgressStream
  /** Facts for the report by heading: model, adapter, data counts. No text of any conversation belongs here. */
  readonly about?: About
  /** Brings the adapter to the Hub while the run goes on; can neither fail nor hold up the run. Default: stays here. */
  readonly publish?: PublishRequest
  /** Seconds since the start of the process, monotonic; default `process.uptime`. */
  readonly elapsed?: () => number
}

export interface TrainResult {
  readonly status: RunStatus
  /** One line for the terminal. */
  readonly message: string
  /** For the process: 0, or 1 if the run diverged. */
  readonly exitCode: 0 | 1
  readonly run: number
  /** The last step of the output folder before this run; the run's own steps follow it. */
  readonly startStep: number
  readonly step: number
  readonly totalSteps: number
  readonly epoch: number
  /** Mean loss of all steps of the run, null before the first. */
  readonly trainLoss: number | null
  readonly evaluation: Evaluation | null
  /** Folder of the newest checkpoint. */
  readonly checkpoint: string | null
  /** Folder of the final model, once the run is finished. */
  readonly finalModel: string | null
}

/** What `train` has in hand while it works. */
export interface TrainContext {
  readonly options: TrainingOptions
  readonly paths: OutputPaths
  readonly stop: StopSource
  readonly events: TrainerEvents
  readonly logs: MetricLogs
  readonly budget: TimeBudget
}

/**
 * Trains in an output folder: resumes what is unfinished there, starts a new run on new data from the last adapter, or says
 * that there is nothing new. Ends finished, or stopped by a signal or the time budget; both have saved everything.
 * @throws TrainerError; errors of `step`, `data` and `saveAdapter` pass through. What was saved before is never harmed.
 */
export async function train<B>(request: TrainRequest<B>): Promise<TrainResult> {
  const options = parseTrainingOptions(request.options)
  const stop = request.stop ?? new StopSource()
  const events = request.events ?? new TrainerEvents()
  if (request.on) events.addCallbacks(request.on)
  const paths = outputPaths(request.outputDir)
  const elapsed = request.elapsed ?? ((): number => process.uptime())
  const endProgress = request.progress ? showProgress(events, { stream: request.progress, elapsed }) : noop
  const removeHandlers = request.handleSignals === false ? noop : handleSignals(stop, events)
  try {
    const lock = await lockOutput(request.outputDir)
    try {
      if (lock.tookOver) events.emit({ type: 'warning', message: `lock of ${lock.tookOver} taken over` })
      await prepareFolders(paths, options, events)
      const logs = new MetricLogs(paths.results)
      const limitSeconds = options.budgetMinutes === null ? null : 60 * options.budgetMinutes
      const earlier: WorkSeconds = await earlierMeasurements(logs)
      const budget = new TimeBudget({ limitSeconds, earlier, elapsed })
      const context = { options, paths, stop, events, logs, budget }
      const endPublishing = request.publish ? publishInBackground(request.publish, context) : doNothing
      try {
        return await trainLocked(request, context)
      } finally {
        await endPublishing()
      }
    } finally {
      await lock.release()
    }
  } finally {
    removeHandlers()
    endProgress()
    events.close()
  }
}

const noop = (): void => undefined
const doNothing = (): Promise<void> => Promise.resolve()

function handleSignals(stop: StopSource, events: TrainerEvents): () => void {
  const onFirst = (signal: NodeJS.Signals): void => {
    const message = `${signal} received: stopping after the current batch, and saving; a second signal ends at once`
    events.emit({ type: 'warning', message })
  }
  return installSignalHandlers(stop, { onFirst })
}

async function prepareFolders(paths: OutputPaths, options: TrainingOptions, events: TrainerEvents): Promise<void> {
  try {
    if (options.forceRestart) {
      const moved = await putAside(paths)
      if (moved.length > 0) events.emit({ type: 'warning', message: `starting anew; kept as ${moved.join(' and ')}` })
    }
    await mkdir(paths.results, { recursive: true })
    await removeLeftovers(paths.results)
    await removeLeftovers(paths.folder)
  } catch (error) {
    throw writeError(error, `output folder ${paths.folder}`)
  }
}

async function trainLocked<B>(request: TrainRequest<B>, context: TrainContext): Promise<TrainResult> {
  const { options, paths, events } = context
  const warn = (message: string): void => events.emit({ type: 'warning', message })
  const hasData = request.data !== null
  const plan = await planRun({ paths, identity: request.identity, options, hasData, warn })
  switch (plan.kind) {
    case 'nothing-new':
      return conclude(context, plan.checkpoint, 'nothing-new', 'nothing new to train on')
    case 'finalize':
      return finish(request, context, plan.checkpoint)
    case 'fresh':
    case 'resume':
    case 'incremental':
      return trainSegment(request, context, plan)
  }
}

async function trainSegment<B>(request: TrainRequest<B>, context: TrainContext, plan: Plan): Promise<TrainResult> {
  const { stop, paths } = context
  const before = 'checkpoint' in plan ? plan.checkpoint : null
  const cancelTimer = requestStopAtEndOfBudget(context)
  let madeStep: TrainStep<B> | null = null
  let hasProgressed = false
  const resolving = { stop, plan, progressed: () => void (hasProgressed = true) }
  try {
    const data = request.data === null ? null : await resolve(request.data, resolving)
    if (data === null || data.train.length === 0) return withoutData(context, before)
    const step = await resolve(request.step, resolving)
    if (typeof request.step === 'function') madeStep = step
    stop.throwIfRequested()
    await writeStatus(paths, { ...placeOf(before), status: 'running', message: 'running', finalModelHash: null })
    const input = {
      ...context,
      identity: request.identity,
      sources: request.sources ?? null,
      saveAdapter: request.saveAdapter,
      plan,
      step,
      train: data.train,
      evaluation: data.eval && data.eval.length > 0 ? data.eval : null,
    }
    return await observed(request, context, before, async () => {
      const end = await recordSegment(context, before, () => runSegment(input))
      return afterSegment(request, context, end)
    })
  } catch (error) {
    if (stop.requested !== null && isStopError(error)) {
      return stoppedWhileLoading(context, { reason: stop.requested, hasProgressed }, before)
    }
    throw error
  } finally {
    cancelTimer()
    await madeStep?.dispose()
  }
}

/** Runs a segment under the eyes of TensorBoard files, dashboard and report. */
async function observed<B>(
  request: TrainRequest<B>,
  context: TrainContext,
  before: Checkpoint | null,
  work: () => Promise<TrainResult>,
): Promise<TrainResult> {
  const { options, paths, events, logs } = context
  const { identity, about = {} } = request
  const report = { logs, options, identity, about }
  const closers: (() => Promise<void>)[] = []
  try {
    if (options.dashboard !== null) closers.push(await openDashboard(options.dashboard, report, events))
    if (options.tensorboard) closers.push(await recordForTensorBoard(paths.results, { logs, before }, events))
    closers.push(followForReport(paths.report, report, events))
    return await work()
  } finally {
    for (const close of closers.reverse()) await close()
  }
}

interface Resolving extends Pick<LazyContext, 'stop' | 'progressed'> {
  readonly plan: Plan
}

async function resolve<T>(value: Lazy<T>, { stop, plan, progressed }: Resolving): Promise<T> {
  if (typeof value !== 'function') return value
  stop.throwIfRequested()
  return (value as (context: LazyContext) => Promise<T>)({ stop, plan: plan.kind, progressed })
}

/** The loop foresees the end of the budget; this is for the phases before it, which only look at `stop`. */
function requestStopAtEndOfBudget({ budget, stop }: TrainContext): () => void {
  const { limitSeconds, remainingSeconds } = budget
  if (limitSeconds === null) return () => undefined
  const request = (): void => stop.request({ kind: 'budget', seconds: limitSeconds })
  // Longer than a timer can wait (2^31 ms) is as good as never.
  const timer = setTimeout(request, Math.min(1000 * remainingSeconds, 2 ** 31 - 1))
  timer.unref()
  return () => clearTimeout(timer)
}

function withoutData(context: TrainContext, before: Checkpoint | null): Promise<TrainResult> {
  if (before?.saved.state.phase === 'finished') {
    return conclude(context, before, 'nothing-new', 'nothing new to train on')
  }
  const message =
    'training data: must have at least one example, got none; look at the data folders and at what was dropped'
  throw new TrainerError('MIRASTRAL_TRAINER_DATA', message)
}

function stoppedWhileLoading(
  context: TrainContext,
  { reason, hasProgressed }: { readonly reason: StopReason; readonly hasProgressed: boolean },
  before: Checkpoint | null,
): Promise<TrainResult> {
  if (reason.kind === 'budget' && !hasProgressed) {
    const message = `time budget: must leave time for training after loading, got ${describeStop(reason)}; raise budgetMinutes`
    throw new TrainerError('MIRASTRAL_BUDGET_TOO_SHORT', message)
  }
  return conclude(context, before, 'stopped', `stopped by ${describeStop(reason)} before the first step`)
}

async function afterSegment<B>(request: TrainRequest<B>, context: TrainContext, end: SegmentEnd): Promise<TrainResult> {
  const checkpoint = await findNewestCheckpoint(context.paths.results, () => undefined)
  const { step, startStep, totals } = end.state
  const where = `step ${startStep + step} of ${startStep + end.totalSteps}`
  switch (end.end) {
    case 'finished':
      if (checkpoint === null) throw new TrainerError('MIRASTRAL_TRAINER_INTERNAL', 'internal: no final checkpoint', 1)
      return finish(request, context, checkpoint)
    case 'stopped': {
      const reason = context.stop.requested
      const message = `stopped by ${reason ? describeStop(reason) : 'request'} at ${where}, saved; run again to go on`
      return conclude(context, checkpoint, 'stopped', message)
    }
    case 'diverged': {
      const message = `diverged at ${where}: ${totals.skippedSteps} steps had a loss or gradient that is not finite; saved. Lower the learning rate or look at the data`
      return conclude(context, checkpoint, 'diverged', message)
    }
  }
}

async function finish<B>(request: TrainRequest<B>, context: TrainContext, last: Checkpoint): Promise<TrainResult> {
  const { paths, events } = context
  const weights = await finalWeights(paths, last, events)
  const finalModelHash = await writeFinalModel(paths, weights, request.saveAdapter)
  const { state } = last.saved
  // A kill between the last checkpoint and its tidying up left this to do.
  await rotateCheckpoints(paths.results, last.name, state.best?.checkpoint ?? null, context.options.saveTotalLimit)
  const early = state.stoppedEarly ? ' (stopped early)' : ''
  return conclude(context, last, 'finished', `finished after step ${placeOf(last).step}${early}`, finalModelHash)
}

/** Writes down how it ended and says so. */
async function conclude(
  context: TrainContext,
  checkpoint: Checkpoint | null,
  status: RunStatus,
  message: string,
  finalModelHash: string | null = null,
): Promise<TrainResult> {
  const { paths, events, logs } = context
  const place = placeOf(checkpoint)
  if (status !== 'nothing-new') await writeStatus(paths, { ...place, status, message, finalModelHash })
  const state = checkpoint?.saved.state
  const finiteSteps = state?.totals.finiteSteps ?? 0
  const evaluations = (await logs.records('eval')) as Evaluation[]
  events.emit({ type: 'stop', status, message, step: place.step })
  return {
    status,
    message,
    exitCode: status === 'diverged' ? 1 : 0,
    ...place,
    startStep: state?.startStep ?? 0,
    epoch: checkpoint ? epochAt(checkpoint) : 0,
    trainLoss: state && finiteSteps > 0 ? state.totals.lossSum / finiteSteps : null,
    evaluation: evaluations.filter((e) => e.run === place.run).at(-1) ?? null,
    finalModel: status === 'finished' || status === 'nothing-new' ? paths.finalModel : null,
  }
}

function placeOf(checkpoint: Checkpoint | null): {
  run: number
  step: number
  totalSteps: number
  checkpoint: string | null
} {
  if (checkpoint === null) return { run: 1, step: 0, totalSteps: 0, checkpoint: null }
  const { state, totalSteps } = checkpoint.saved
  const { run, startStep, step } = state
  return { run, step: startStep + step, totalSteps: startStep + totalSteps, checkpoint: checkpoint.folder }
}

function epochAt({ saved }: Checkpoint): number {
  return saved.state.epoch + saved.state.position / saved.microBatchesPerEpoch
}
