import { z } from 'zod'
import { initialLossScale } from './loss-scale.js'
import { initialSpikeState } from './watchdog.js'

const integer = z.number().int().nonnegative()
/** JSON has no NaN or infinity: both are written as null and read as NaN. */
const possiblyNaN = z
  .number()
  .nullable()
  .transform((value) => value ?? NaN)
const sums = z.record(z.string(), possiblyNaN)

const windowSchema = z.strictObject({
  /** Micro-batches accumulated since the last update. */
  microBatches: integer,
  lossSum: z.number(),
  tokens: integer,
  metrics: sums,
  /** False once a loss of the window was not finite. */
  finite: z.boolean(),
})

const evaluationProgressSchema = z.strictObject({
  /** Batches of the evaluation split that are done. */
  position: integer,
  lossSum: possiblyNaN,
  tokens: integer,
  correct: integer,
  metrics: sums,
})

/** The best evaluation so far. `step` counts over all runs of the folder, like the checkpoint's name. */
const bestSchema = z.strictObject({ metric: z.number(), step: integer, checkpoint: z.string() })

export const loopStateSchema = z.strictObject({
  /** Which run of the output folder this is, from 1. */
  run: z.number().int().positive(),
  /** Steps of the runs before: checkpoints and logs count through. */
  startStep: integer,
  /** Finished optimizer steps of this run, skipped ones included: what the schedule counts. */
  step: integer,
  /** Updates that were applied: what AdamW's bias correction counts. */
  updates: integer,
  epoch: integer,
  /** Micro-batches of the epoch that are accumulated. */
  position: integer,
  /** Micro-batches of the run that are accumulated. */
  microSteps: integer,
  phase: z.enum(['train', 'evaluate', 'finished']),
  window: windowSchema,
  /** What the next log record is made of: sums over the steps since the last one. */
  sinceLog: z.strictObject({ lossSum: z.number(), finiteSteps: integer, tokens: integer, metrics: sums }),
  totals: z.strictObject({
    trainedTokens: integer,
    inputTokens: integer,
    lossSum: z.number(),
    finiteSteps: integer,
    skippedSteps: integer,
  }),
  skippedInARow: integer,
  /** Loss scaling of float16; null for the precisions that need none. */
  lossScale: z.strictObject({ scale: z.number().positive(), goodSteps: integer, overflows: integer }).nullable(),
  /** Whether micro-batches are merged, and the tokens that a merged batch must stay below; null until one was too large. */
  merge: z.strictObject({ on: z.boolean(), belowTokens: integer.nullable() }),
  spike: z.strictObject({ count: integer, mean: z.number(), deviation: z.number() }),
  evaluation: evaluationProgressSchema,
  /** Step of the last evaluation that was finished, -1 before the first. */
  evaluatedAt: z.number().int().min(-1),
  best: bestSchema.nullable(),
  evaluationsWithoutImprovement: integer,
  stoppedEarly: z.boolean(),
  /** A checkpoint is to be written as soon as no evaluation is under way. */
  saveDue: z.boolean(),
})

/** Everything of the loop that is not on the device, as plain JSON: with the device state it is the whole run. */
export type LoopState = z.infer<typeof loopStateSchema>
export type Window = LoopState['window']

export const emptyWindow = (): Window => ({ microBatches: 0, lossSum: 0, tokens: 0, metrics: {}, finite: true })
export const emptySinceLog = (): LoopState['sinceLog'] => ({
  lossSum: 0,
  finiteSteps: 0,
  tokens: 0,
  metrics: {},
})
export const emptyEvaluation = (): LoopState['evaluation'] => ({
  position: 0,
  lossSum: 0,
  tokens: 0,
  correct: 0,
  metrics: {},
})

export function initialState(
  run: number,
  startStep: number,
  o: { readonly lossScale: number | null; readonly merge: boolean },
): LoopState {
  return {
    run,
    startStep,
    step: 0,
    updates: 0,
    epoch: 0,
    position: 0,
    microSteps: 0,
    phase: 'train',
    window: emptyWindow(),
    sinceLog: emptySinceLog(),
    totals: { trainedTokens: 0, inputTokens: 0, lossSum: 0, finiteSteps: 0, skippedSteps: 0 },
    skippedInARow: 0,
    lossScale: o.lossScale === null ? null : initialLossScale(o.lossScale),
    merge: { on: o.merge, belowTokens: null },
    spike: initialSpikeState,
    evaluation: emptyEvaluation(),
    evaluatedAt: -1,
    best: null,
    evaluationsWithoutImprovement: 0,
    stoppedEarly: false,
    saveDue: false,
  }
}

export type SkipReason = 'loss is not finite' | 'gradient is not finite' | 'no trained tokens' | 'float16 overflow'

/** A line of `train.jsonl`. */
export interface StepRecord {
  readonly run: number
  /** Counts over all runs of the folder. */
  readonly step: number
  readonly epoch: number
  /** Mean over the steps since the last record of their loss per trained token (per pair); null if all were skipped. */
  readonly loss: number | null
  /** Norm of the step's gradient before clipping; null if the step was skipped. */
  readonly gradNorm: number | null
  /** The rate that the step was taken with. */
  readonly learningRate: number
  /** Trained tokens (pairs) since the last record. */
  readonly tokens: number
  readonly skipped?: SkipReason
  readonly spike?: true
  /** Means per pair: the rewards of preference training. */
  readonly metrics?: Readonly<Record<string, number>>
}

/** A line of `eval.jsonl`. */
export interface Evaluation {
  readonly run: number
  readonly step: number
  readonly epoch: number
  /** Loss per trained token over the whole split (not a mean of batches' means). */
  readonly evalLoss: number
  /** exp(evalLoss); not there for preference pairs, whose loss is none of tokens. */
  readonly evalPerplexity?: number
  /** Share of the trained tokens that are the model's first choice (of the pairs that are ranked rightly). */
  readonly evalTokenAccuracy: number
  readonly evalTokens: number
  readonly metrics?: Readonly<Record<string, number>>
}

export function addSums(into: Record<string, number>, add: Readonly<Record<string, number>> | undefined): void {
  for (const [name, value] of Object.entries(add ?? {})) into[name] = (into[name] ?? 0) + value
}

/** Sums divided by a count, or undefined where there are none. */
export function meansOf(
  sumsByName: Readonly<Record<string, number>>,
  count: number,
): Readonly<Record<string, number>> | undefined {
  const entries = Object.entries(sumsByName)
  if (entries.length === 0 || count === 0) return undefined
  return Object.fromEntries(entries.map(([name, sum]) => [name, sum / count]))
}
