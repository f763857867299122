import { checkpointNameOf } from './checkpoint-name.js'
import type { Run } from './run.js'
import { emitProgress, epochOf, timed } from './run.js'
import type { Evaluation, LoopState } from './state.js'
import { addSums, emptyEvaluation, meansOf } from './state.js'
import { evalHistoryEntry } from './trainer-state.js'

/** Evaluates the next batch of the evaluation split. Returns whether that was the last one, with its result recorded. */
export async function evaluateBatch<B>(run: Run<B>): Promise<boolean> {
  const { state, evaluation: source, step } = run
  if (source === null) return true
  const progress = state.evaluation
  const batch = await source.get(0, progress.position)
  const result = await timed(run, 'evaluate', () => step.evaluate(batch))
  progress.position++
  progress.lossSum += result.lossSum
  progress.tokens += result.tokens
  progress.correct += result.correct
  addSums(progress.metrics, result.metrics)
  emitProgress(run)
  if (progress.position < source.length) return false
  await finishEvaluation(run)
  return true
}

async function finishEvaluation<B>(run: Run<B>): Promise<void> {
  const { state } = run
  const { lossSum, tokens, correct, metrics } = state.evaluation
  const means = meansOf(metrics, tokens)
  const evaluation: Evaluation = {
    run: state.run,
    step: state.startStep + state.step,
    epoch: epochOf(run),
    evalLoss: lossSum / tokens,
    ...(run.step.counts !== 'pairs' && { evalPerplexity: Math.exp(lossSum / tokens) }),
    evalTokenAccuracy: correct / tokens,
    evalTokens: tokens,
    ...(means && { metrics: means }),
  }
  state.evaluation = emptyEvaluation()
  state.evaluatedAt = state.step
  judge(run, evaluation)
  run.logHistory.push(evalHistoryEntry(evaluation))
  await run.logs.append('eval', evaluation)
  run.events.emit({ type: 'evaluate', evaluation })
}

/** Follows the best evaluation, and early stopping as Transformers' `EarlyStoppingCallback` counts. */
function judge<B>(run: Run<B>, evaluation: Evaluation): void {
  const { state, options } = run
  const metric = evaluation[options.metricForBestModel]
  const sign = options.metricForBestModel === 'evalLoss' ? -1 : 1
  const gain = sign * metric - (state.best === null ? -Infinity : sign * state.best.metric)
  if (gain > options.earlyStoppingThreshold) state.evaluationsWithoutImprovement = 0
  else state.evaluationsWithoutImprovement++
  if (gain > 0) {
    state.best = { metric, step: evaluation.step, checkpoint: nameAfterEvaluation(state) }
    state.saveDue ||= options.loadBestModelAtEnd
  }
  const patience = options.earlyStoppingPatience
  if (patience !== null && state.evaluationsWithoutImprovement >= patience && !state.stoppedEarly) {
    state.stoppedEarly = true
    const message = `stops early: ${patience} evaluations without improvement`
    run.events.emit({ type: 'warning', message: `step ${evaluation.step}: ${message}` })
  }
}

function nameAfterEvaluation(state: LoopState): string {
  return checkpointNameOf({ ...state, phase: 'train' })
}
