import type { Run } from './run.js'
import type { SkipReason, StepRecord } from './state.js'
import { emptySinceLog, meansOf } from './state.js'
import { trainHistoryEntry } from './trainer-state.js'

export interface StepOutcome {
  readonly epoch: number
  readonly learningRate: number
  readonly gradNorm: number | null
  readonly skipped: SkipReason | null
  readonly spike: boolean
}

/** Logs a step: what resume reproduces into `train.jsonl`, its speed into `speed.jsonl`. */
export async function recordStep<B>(run: Run<B>, outcome: StepOutcome): Promise<void> {
  const { state } = run
  const { sinceLog } = state
  const means = meansOf(sinceLog.metrics, sinceLog.tokens)
  const record: StepRecord = {
    run: state.run,
    step: state.startStep + state.step,
    epoch: outcome.epoch,
    loss: sinceLog.finiteSteps > 0 ? sinceLog.lossSum / sinceLog.finiteSteps : null,
    gradNorm: outcome.gradNorm,
    learningRate: outcome.learningRate,
    tokens: sinceLog.tokens,
    ...(outcome.skipped && { skipped: outcome.skipped }),
    ...(outcome.spike && { spike: true as const }),
    ...(means && { metrics: means }),
  }
  state.sinceLog = emptySinceLog()
  run.logHistory.push(trainHistoryEntry(record))
  await run.logs.append('train', record)

  const taken = run.speed.take()
  const speed = {
    ...taken,
    elapsedSeconds: run.budget.elapsedSeconds,
    remainingSeconds: taken.secondsPerStep * (run.schedule.totalSteps - state.step),
    budgetSeconds: run.budget.limitSeconds,
    residentBytes: process.memoryUsage.rss(),
  }
  await run.logs.append('speed', { run: record.run, step: record.step, ...speed })
  run.events.emit({ type: 'step', record, speed })
}
