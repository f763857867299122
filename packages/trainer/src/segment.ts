import { basename } from 'node:path'
import type { BatchSource } from './batches.js'
import type { TimeBudget } from './budget.js'
import type { Checkpoint, JsonValue, SaveAdapter } from './checkpoint.js'
import { readCheckpoint, readDeviceState, readLogHistory, rotateCheckpoints, saveCheckpoint } from './checkpoint.js'
import { parseCheckpointName } from './checkpoint-name.js'
import { TrainerError } from './errors.js'
import type { TrainerEvents } from './events.js'
import { runLoop } from './loop.js'
import type { LoopEnd } from './loop.js'
import type { MetricLogs } from './metrics.js'
import type { TrainingOptions } from './options.js'
import { recipeOf } from './options.js'
import type { OutputPaths } from './results.js'
import type { Plan, RunIdentity } from './resume.js'
import type { Run } from './run.js'
import { epochOf, timed } from './run.js'
import { countSteps, resolveWarmupSteps } from './schedule.js'
import type { StopSource } from './signals.js'
import { SpeedMeter } from './speed.js'
import type { LoopState } from './state.js'
import { initialState } from './state.js'
import type { DeviceState, StateTensor, TrainStep } from './step.js'
import { statePrefix, stateUnder } from './step.js'
import { trainerState } from './trainer-state.js'

/** What a segment works on and with. */
export interface SegmentInput<B> {
  readonly paths: OutputPaths
  readonly options: TrainingOptions
  readonly identity: RunIdentity
  readonly sources: JsonValue
  readonly plan: Plan
  readonly step: TrainStep<B>
  readonly train: BatchSource<B>
  readonly evaluation: BatchSource<B> | null
  readonly saveAdapter: SaveAdapter
  readonly events: TrainerEvents
  readonly stop: StopSource
  readonly budget: TimeBudget
  readonly logs: MetricLogs
}

export interface SegmentEnd {
  readonly end: LoopEnd
  readonly state: LoopState
  readonly totalSteps: number
  readonly epoch: number
  /** Folder of the newest checkpoint, or null if there was nothing to save. */
  readonly checkpoint: string | null
}

/** Brings device, logs and state to where the plan begins, trains, and saves where it ends. */
export async function runSegment<B>(input: SegmentInput<B>): Promise<SegmentEnd> {
  const { plan, step, events, logs } = input
  const { train, options } = input
  const totalSteps = countSteps({ ...options, microBatchesPerEpoch: train.length })
  const state = startingState(input)
  checkLength(plan, train.length)
  await restore(plan, step, logs, input)

  let checkpoint = 'checkpoint' in plan ? plan.checkpoint.folder : null
  let savedState = JSON.stringify(state)
  const logHistory = plan.kind === 'resume' ? await readLogHistory(plan.checkpoint) : []
  const warmupSteps = resolveWarmupSteps(options, totalSteps)
  const run: Run<B> = {
    ...input,
    step,
    schedule: { type: options.lrSchedulerType, learningRate: options.learningRate, warmupSteps, totalSteps },
    state,
    logHistory,
    speed: new SpeedMeter(),
    windowCache: null,
    save: async () => {
      checkpoint = await save(input, run)
      savedState = JSON.stringify(state)
    },
  }
  if (plan.kind !== 'resume' && input.evaluation !== null && options.evalOnStart) state.phase = 'evaluate'
  events.emit({
    type: 'start',
    run: state.run,
    step: state.startStep + state.step,
    totalSteps: state.startStep + totalSteps,
    resumedFrom: plan.kind === 'resume' ? plan.checkpoint.folder : null,
  })
  const end = await runLoop(run)
  // What stopped the run must not stop the next segment before it begins.
  if (end === 'diverged') state.skippedInARow = 0
  if (end !== 'finished' && JSON.stringify(state) !== savedState) await timed(run, 'save', run.save)
  return { end, state, totalSteps, epoch: epochOf(run), checkpoint }
}

function startingState<B>({ plan, options, step: { merging } }: SegmentInput<B>): LoopState {
  const { mergeMicroBatches, precision, initialLossScale } = options
  if (mergeMicroBatches === true && !merging) {
    const message = 'mergeMicroBatches: this training step takes one micro-batch at a time; leave it out'
    throw new TrainerError('MIRASTRAL_TRAINER_OPTIONS', message)
  }
  const merge = mergeMicroBatches === 'auto' ? merging?.preferred === true : mergeMicroBatches
  const o = { merge, lossScale: precision === 'float16' ? initialLossScale : null }
  if (plan.kind === 'resume') return resumedState(plan.checkpoint, options, initialState(1, 0, o))
  if (plan.kind !== 'incremental') return initialState(1, 0, o)
  const { run, startStep, step } = plan.checkpoint.saved.state
  return initialState(run + 1, startStep + step, o)
}

/** The state of a checkpoint; what depends on options that were changed with `acceptChangedOptions` begins anew. */
function resumedState({ folder, saved }: Checkpoint, options: TrainingOptions, fresh: LoopState): LoopState {
  const state = structuredClone(saved.state)
  const recipe = recipeOf(options)
  const hasChanged = (name: 'mergeMicroBatches' | 'precision'): boolean => saved.recipe[name] !== recipe[name]
  if (!hasChanged('mergeMicroBatches') && !hasChanged('precision')) return state
  if (state.window.microBatches > 0) {
    const message = `checkpoint ${folder}: must lie between two steps for another precision or another merging of micro-batches, got one within a step; finish the step with the old options`
    throw new TrainerError('MIRASTRAL_CHECKPOINT_MISMATCH', message)
  }
  return { ...state, merge: fresh.merge, ...(hasChanged('precision') && { lossScale: fresh.lossScale }) }
}

function checkLength(plan: Plan, microBatches: number): void {
  if (plan.kind !== 'resume' || plan.checkpoint.saved.microBatchesPerEpoch === microBatches) return
  const message = `checkpoint ${plan.checkpoint.folder}: must belong to this run, got ${microBatches} micro-batches per epoch where the checkpoint has ${plan.checkpoint.saved.microBatchesPerEpoch}; use the same data and batch size, or start anew with forceRestart (--force-restart)`
  throw new TrainerError('MIRASTRAL_CHECKPOINT_MISMATCH', message)
}

async function restore<B>(plan: Plan, step: TrainStep<B>, logs: MetricLogs, input: SegmentInput<B>): Promise<void> {
  if (plan.kind === 'resume') {
    const device = await readDeviceState(plan.checkpoint)
    for (const [name, zeros] of zerosLike(device, statePrefix.gradient)) if (!device.has(name)) device.set(name, zeros)
    await step.writeState(device)
  } else if (plan.kind === 'incremental') {
    const weights = await finalWeights(input.paths, plan.checkpoint, input.events)
    const device: DeviceState = new Map()
    for (const [key, tensor] of weights) device.set(statePrefix.adapter + key, tensor)
    for (const prefix of [statePrefix.firstMoment, statePrefix.secondMoment, statePrefix.gradient]) {
      for (const [name, zeros] of zerosLike(device, prefix)) device.set(name, zeros)
    }
    await step.writeState(device)
  }
  const lengths = 'checkpoint' in plan ? plan.checkpoint.saved.logs : { train: 0, eval: 0, speed: 0 }
  for (const message of await logs.cutBack(lengths)) input.events.emit({ type: 'warning', message })
  await logs.repair('segments')
}

/** Zeros of the shapes of the adapter's tensors, under another prefix. */
function zerosLike(device: DeviceState, prefix: string): DeviceState {
  const zeros: DeviceState = new Map()
  for (const [key, { shape, data }] of stateUnder(device, statePrefix.adapter)) {
    zeros.set(prefix + key, { shape, data: new Float32Array(data.length) })
  }
  return zeros
}

async function save<B>(input: SegmentInput<B>, run: Run<B>): Promise<string> {
  const { paths, options, identity, sources, train } = input
  const { state } = run
  const start = run.budget.elapsedSeconds
  const { totalSteps } = run.schedule
  const saved = {
    format: 1 as const,
    identity,
    recipe: recipeOf(options),
    totalSteps,
    microBatchesPerEpoch: train.length,
    // The schema's JSON type is mutable, ours is not.
    sources: structuredClone(sources) as never,
    finalIsBest: options.loadBestModelAtEnd,
    logs: await run.logs.flushedLengths(),
    state,
  }
  const epoch = epochOf(run)
  const folder = await saveCheckpoint(
    paths.results,
    {
      saved,
      device: await run.step.readState(),
      trainerState: trainerState(state, { options, totalSteps, epoch, logHistory: run.logHistory }),
    },
    input.saveAdapter,
  )
  await rotateCheckpoints(paths.results, basename(folder), state.best?.checkpoint ?? null, options.saveTotalLimit)
  const seconds = run.budget.elapsedSeconds - start
  run.events.emit({ type: 'save', checkpoint: folder, step: state.startStep + state.step, seconds })
  return folder
}

/** The adapter that a finished run ends with: the best evaluated one if it asked for that, else the last. */
export async function finalWeights(
  paths: OutputPaths,
  last: Checkpoint,
  events: TrainerEvents,
): Promise<Map<string, StateTensor>> {
  const best = last.saved.finalIsBest ? last.saved.state.best : null
  const name = best && best.checkpoint !== last.name ? parseCheckpointName(best.checkpoint) : null
  const found = name === null ? last : await readCheckpoint(paths.results, name)
  if (found === null) {
    const message = `the best checkpoint ${best?.checkpoint ?? ''} is missing or damaged; the last one is used instead`
    events.emit({ type: 'warning', message })
  }
  return stateUnder(await readDeviceState(found ?? last), statePrefix.adapter)
}
