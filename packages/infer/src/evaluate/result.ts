import { z } from 'zod'
import { checkForm } from '../package-data.js'
import { checkNames, scenarioKinds } from './suite.js'

const count = z.int().min(0)
const share = z.number().min(0).max(1).nullable()
/** How many of how many. */
const countsSchema = z.strictObject({ passed: count, total: count })
export type Counts = Readonly<z.infer<typeof countsSchema>>

const replySchema = z.strictObject({
  /** Which message of the script it answers, from 1. */
  turn: z.int().min(1),
  words: count,
  /** The reply was cut at the limit of characters. */
  truncated: z.boolean(),
  checks: z.array(z.strictObject({ name: z.enum(checkNames), passed: z.boolean(), rules: z.array(z.string()) })),
  violations: z.array(z.strictObject({ category: z.string(), source: z.string() })),
  markers: z.strictObject({
    sentences: count,
    reflections: count,
    validations: count,
    openQuestions: count,
    closedQuestions: count,
    advice: count,
  }),
  repetition: z.strictObject({ runs: count, repeated: count, carriedOver: count, comparable: count }),
  /** Only where the caller asked for texts. */
  message: z.string().optional(),
  text: z.string().optional(),
})

const scenarioResultSchema = z.strictObject({
  id: z.string(),
  kind: z.enum(scenarioKinds),
  about: z.string(),
  /** Every check passed and no boundary was broken. */
  passed: z.boolean(),
  replies: z.array(replySchema),
})

const summarySchema = z.strictObject({
  scenarios: countsSchema,
  kinds: z.partialRecord(z.enum(scenarioKinds), countsSchema),
  checks: z.partialRecord(z.enum(checkNames), countsSchema),
  /** Replies that break no boundary. */
  boundaries: countsSchema,
  /** Replies that break it, by boundary; the categories of an injected guard have the prefix `guard:`. */
  violations: z.record(z.string(), count),
  emptyReplies: count,
  wordsPerReply: z.number().nullable(),
  markers: z.strictObject({
    reflectionsPerReply: z.number().nullable(),
    /** Replies with at least one sentence of validation. */
    validatingReplies: share,
    openQuestionsPerReply: z.number().nullable(),
    openQuestionShare: share,
    /** Null where no question was asked. */
    reflectionsPerQuestion: z.number().nullable(),
    /** Sentences of advice among all sentences. */
    adviceRatio: share,
  }),
  repetition: z.strictObject({
    withinReply: share,
    betweenTurns: share,
    commonOpening: share,
    identicalReplies: share,
  }),
  /** Mean cross-entropy in nats per token, where the caller measured it. */
  evalLoss: z.number().nullable(),
  perplexity: z.number().nullable(),
})

export const evaluationResultSchema = z.strictObject({
  format: z.literal(1),
  suite: z.strictObject({ id: z.string(), version: z.int(), sha256: z.string(), scenarios: count }),
  model: z.string(),
  /** SHA-256 of the system prompt; null where there was none. */
  systemPromptSha256: z.string().nullable(),
  guarded: z.boolean(),
  summary: summarySchema,
  scenarios: z.array(scenarioResultSchema),
})

export type EvaluationResult = z.infer<typeof evaluationResultSchema>
export type ScenarioResult = EvaluationResult['scenarios'][number]
export type ReplyResult = ScenarioResult['replies'][number]
export type EvaluationSummary = EvaluationResult['summary']

/**
 * Reads a result that was written as JSON.
 * @throws InferError MIRASTRAL_INFER_EVALUATION naming every problem.
 */
export function parseEvaluation(value: unknown): EvaluationResult {
  return checkForm(value, 'evaluate: the result', evaluationResultSchema, 'MIRASTRAL_INFER_EVALUATION')
}

/** The result without anything that the person or the model wrote. */
export function withoutText(result: EvaluationResult): EvaluationResult {
  const scenarios = result.scenarios.map((scenario) => ({
    ...scenario,
    replies: scenario.replies.map(({ message: _message, text: _text, ...rest }) => rest),
  }))
  return { ...result, scenarios }
}

/** The result as JSON; texts of the conversations only on request. The same result gives the same bytes. */
export function evaluationJson(result: EvaluationResult, options: { readonly keepText?: boolean } = {}): string {
  const checked = parseEvaluation(options.keepText === true ? result : withoutText(result))
  return `${JSON.stringify(checked, null, 2)}\n`
}
