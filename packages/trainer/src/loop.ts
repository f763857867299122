import { setImmediate as yieldToEvents } from 'node:timers/promises'
import type { WorkKind } from './budget.js'
import { TrainerError } from './errors.js'
import { evaluateBatch } from './evaluation.js'
import type { TrainingOptions } from './options.js'
import { followGradients, lossScaleOf } from './loss-scale.js'
import { recordStep } from './records.js'
import type { Run } from './run.js'
import { emitProgress, epochOf, isLastStep, timed } from './run.js'
import { learningRateAt } from './schedule.js'
import { isStopError } from './signals.js'
import type { LoopState, SkipReason } from './state.js'
import { addSums, emptyEvaluation, emptyWindow } from './state.js'
import type { AccumulateResult } from './step.js'
import { statePrefix, zerosUnder } from './step.js'
import { followLoss } from './watchdog.js'
import { accumulate, nextMicroBatches } from './window.js'

export type LoopEnd = 'finished' | 'stopped' | 'diverged'

/**
 * Trains until the run is finished, asked to stop, or has diverged. It changes `run.state` in steps after each of which the
 * state, together with the device's, is the whole run: a checkpoint may be made after any of them, also inside an accumulation
 * window or an evaluation. When asked to stop it returns without having saved.
 */
export async function runLoop<B>(run: Run<B>): Promise<LoopEnd> {
  const { state } = run
  while (state.phase !== 'finished') {
    // Signals and timers get their turn even if the step never waits for anything.
    await yieldToEvents()
    if (mustStop(run)) return 'stopped'
    try {
      await doNextWork(run)
    } catch (error) {
      // Data that are made on the way may be given the stop's signal; nothing has changed when they unwind.
      if (run.stop.requested !== null && isStopError(error)) return 'stopped'
      throw error
    }
    if (state.skippedInARow >= run.options.maxSkippedSteps) return 'diverged'
    if (state.saveDue && state.phase !== 'evaluate') {
      state.saveDue = false
      await timed(run, 'save', run.save)
    }
  }
  return 'finished'
}

async function doNextWork<B>(run: Run<B>): Promise<void> {
  if (run.state.phase !== 'evaluate') await trainMicroBatches(run)
  else if (await evaluateBatch(run)) settle(run)
}

function mustStop<B>(run: Run<B>): boolean {
  const { budget, stop } = run
  if (stop.requested === null && !budget.allows(...nextWork(run))) {
    const seconds = budget.limitSeconds ?? 0
    if (!budget.hasWorked) {
      const needed = Math.ceil(
        budget.elapsedSeconds + nextWork(run).reduce((sum, kind) => sum + budget.expected(kind), 0),
      )
      const message = `time budget: must leave time for one batch after loading, got ${formatSeconds(seconds)} where at least ${formatSeconds(needed + budget.expected('save'))} are needed; raise budgetMinutes`
      throw new TrainerError('MIRASTRAL_BUDGET_TOO_SHORT', message)
    }
    stop.request({ kind: 'budget', seconds })
  }
  return stop.requested !== null
}

const formatSeconds = (seconds: number): string =>
  seconds >= 60 ? `${(seconds / 60).toFixed(1)} min` : `${seconds.toFixed(1)} s`

function nextWork<B>(run: Run<B>): WorkKind[] {
  const { phase, merge, window, position } = run.state
  if (phase === 'evaluate') return ['evaluate']
  return merge.on || endsWindow(run, window.microBatches + 1, position + 1) ? ['microStep', 'update'] : ['microStep']
}

/** Whether the window is full, or the epoch over: the last window of an epoch takes what is left. */
function endsWindow<B>(run: Run<B>, microBatches: number, position: number): boolean {
  return microBatches === run.options.gradientAccumulationSteps || position === run.train.length
}

/** Trains the next micro-batch of the window, or all those of its shape as one. */
async function trainMicroBatches<B>(run: Run<B>): Promise<void> {
  const { state, train } = run
  const next = await nextMicroBatches(run)
  const result = await timed(run, 'microStep', () => accumulate(run, next))
  // Too large for the memory: the next group is smaller.
  if (result === null) return
  const inputTokens = next.batches.reduce((sum, batch) => sum + train.inputTokens(batch), 0)
  run.speed.addTokens(inputTokens)
  state.totals.inputTokens += inputTokens
  addToWindow(state, result, next.batches.length)
  state.position += next.batches.length
  state.microSteps += next.batches.length
  if (!endsWindow(run, state.window.microBatches, state.position)) {
    emitProgress(run)
    return
  }
  await finishStep(run)
}

function addToWindow(state: LoopState, result: AccumulateResult, microBatches: number): void {
  const { window } = state
  window.microBatches += microBatches
  window.tokens += result.tokens
  if (!Number.isFinite(result.lossSum)) {
    window.finite = false
    return
  }
  window.lossSum += result.lossSum
  addSums(window.metrics, result.metrics)
}

async function finishStep<B>(run: Run<B>): Promise<void> {
  const { state, options } = run
  // As in the Hugging Face Trainer, a step that float16 overflowed in counts as a step, but not for the schedule.
  const learningRate = learningRateAt(run.schedule, state.step - (state.lossScale?.overflows ?? 0))
  const { gradNorm, skipped } = await updateWeights(run, learningRate)
  state.step++
  run.speed.addStep()
  const spike = skipped === null ? countStep(run) : false
  if (skipped !== null) countSkip(run, skipped)
  state.window = emptyWindow()
  const epoch = epochOf(run)
  if (state.position === run.train.length) {
    state.epoch++
    state.position = 0
  }
  if (state.step % options.loggingSteps === 0 || isLastStep(run)) {
    await recordStep(run, { epoch, learningRate, gradNorm, skipped, spike })
  }
  decideNext(run)
}

async function updateWeights<B>(
  run: Run<B>,
  learningRate: number,
): Promise<{ gradNorm: number | null; skipped: SkipReason | null }> {
  const { state, step } = run
  const { tokens, finite } = state.window
  if (!finite) {
    await step.writeState(zerosUnder(await step.readState(), statePrefix.gradient))
    followGradients(state, false)
    return { gradNorm: null, skipped: 'loss is not finite' }
  }
  if (tokens === 0) return { gradNorm: null, skipped: 'no trained tokens' }
  const request = { learningRate, step: state.updates + 1, tokens, lossScale: lossScaleOf(run) }
  const { gradNorm } = await timed(run, 'update', () => step.update(request))
  const isFinite = Number.isFinite(gradNorm)
  const mayBeScale = state.lossScale !== null && state.lossScale.scale > 1
  followGradients(state, isFinite)
  if (!isFinite) return { gradNorm: null, skipped: mayBeScale ? 'float16 overflow' : 'gradient is not finite' }
  state.updates++
  return { gradNorm, skipped: null }
}

/** Returns whether the step's loss is a spike. */
function countStep<B>(run: Run<B>): boolean {
  const { state } = run
  const loss = state.window.lossSum / state.window.tokens
  state.skippedInARow = 0
  state.sinceLog.lossSum += loss
  state.sinceLog.finiteSteps++
  state.sinceLog.tokens += state.window.tokens
  state.totals.trainedTokens += state.window.tokens
  addSums(state.sinceLog.metrics, state.window.metrics)
  state.totals.lossSum += loss
  state.totals.finiteSteps++
  const followed = followLoss(state.spike, loss)
  state.spike = followed.state
  if (followed.spike) {
    const mean = followed.state.mean.toPrecision(4)
    warnAt(
      run,
      `loss ${loss.toPrecision(4)} is a spike (recent mean ${mean}); look at the data or lower the learning rate`,
    )
  }
  return followed.spike
}

function countSkip<B>(run: Run<B>, reason: SkipReason): void {
  run.state.totals.skippedSteps++
  if (reason === 'float16 overflow') {
    // How the scale is found, and no trouble unless it finds no end.
    warnAt(run, `skipped, ${reason}: the loss scale is now ${run.state.lossScale?.scale}`)
    return
  }
  if (reason !== 'no trained tokens') run.state.skippedInARow++
  warnAt(run, `skipped, ${reason} (${run.state.totals.skippedSteps} skipped so far)`)
}

function warnAt<B>(run: Run<B>, message: string): void {
  run.events.emit({ type: 'warning', message: `step ${run.state.startStep + run.state.step}: ${message}` })
}

function decideNext<B>(run: Run<B>): void {
  const { state, options } = run
  state.saveDue ||= isDue(run, options.saveStrategy, options.saveSteps)
  const evaluate = isDue(run, options.evalStrategy, options.evalSteps) || isLastStep(run)
  if (run.evaluation !== null && evaluate) {
    state.phase = 'evaluate'
    state.evaluation = emptyEvaluation()
  } else {
    settle(run)
  }
}

/** Where no evaluation is pending: on to the next step, or the end. */
function settle<B>(run: Run<B>): void {
  const { state } = run
  const done = isLastStep(run) || state.stoppedEarly
  state.phase = done ? 'finished' : 'train'
  state.saveDue ||= done
}

function isDue<B>(run: Run<B>, strategy: TrainingOptions['saveStrategy'], every: number): boolean {
  switch (strategy) {
    case 'no':
      return false
    case 'steps':
      return run.state.step % every === 0
    case 'epoch':
      return run.state.position === 0
  }
}
