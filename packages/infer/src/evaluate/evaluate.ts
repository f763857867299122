import { createHash } from 'node:crypto'
import type { Turn } from '@mirastral/data'
import { InferError } from '../errors.js'
import { boundaryViolations, checkReply } from './judge/checks.js'
import { markersOf } from './markers.js'
import { guardEnding } from './model.js'
import type { EvaluatedModel, OutputGuard } from './model.js'
import { repetitionOf, samenessOf } from './repetition.js'
import { parseEvaluation } from './result.js'
import type { EvaluationResult, ReplyResult, ScenarioResult } from './result.js'
import { suiteHash } from './suite.js'
import type { Scenario, ScenarioTurn, Suite } from './suite.js'
import { summarize } from './summary.js'
import { wordsOf } from './text/sentences.js'

export interface EvaluationOptions {
  /** The name of the model in results and pages. Default 'model'. */
  readonly name?: string
  /** Comes before every conversation, as it would in use. */
  readonly systemPrompt?: string
  /** A second judge of every reply, beside the text rules. */
  readonly guard?: OutputGuard
  /** Mean cross-entropy in nats per token on held-out data, measured elsewhere. At least 0. */
  readonly evalLoss?: number
  /** Whether the result holds what was written. Default false. */
  readonly keepText?: boolean
  /** How many conversations are held at the same time. Default 1. */
  readonly concurrency?: number
  /** Where a reply is cut, in UTF-16 code units. Default 8000. */
  readonly maxReplyLength?: number
  readonly signal?: AbortSignal
  /** Called after each conversation. */
  readonly onProgress?: (done: number, total: number) => void
}

interface Answered {
  readonly turn: number
  readonly script: ScenarioTurn
  /** The conversation that was answered, the system prompt included. */
  readonly before: readonly Turn[]
  readonly text: string
  readonly truncated: boolean
}

const defaultMaxReplyLength = 8000

/**
 * Holds the scripted conversations of a suite with a model and judges the replies. The judging is by text rules, without a
 * model and without chance: the same replies give the same result. It compares models; it is no clinical assessment.
 * @throws InferError MIRASTRAL_INFER_OPTION for options out of range, MIRASTRAL_INFER_EVALUATION when the model fails (with
 * the model's error as cause); the reason of the signal when that aborts.
 */
export async function evaluate(
  model: EvaluatedModel,
  suite: Suite,
  options: EvaluationOptions = {},
): Promise<EvaluationResult> {
  checkOptions(options)
  const held = await holdAll(model, suite, options)
  const scenarios = held.map((answers, i) => judgeScenario(suite.scenarios[i], answers, options))
  const replies = held.flat().map((answer) => answer.text)
  const { systemPrompt = '', evalLoss = null } = options
  return parseEvaluation({
    format: 1,
    suite: { id: suite.id, version: suite.version, sha256: suiteHash(suite), scenarios: suite.scenarios.length },
    model: options.name ?? 'model',
    systemPromptSha256: systemPrompt === '' ? null : createHash('sha256').update(systemPrompt).digest('hex'),
    guarded: options.guard !== undefined,
    summary: summarize(scenarios, samenessOf(replies), evalLoss),
    scenarios,
  } satisfies EvaluationResult)
}

function checkOptions({ evalLoss = 0, concurrency = 1, maxReplyLength = 1 }: EvaluationOptions): void {
  const refuse = (rule: string, got: number): never => {
    throw new InferError('MIRASTRAL_INFER_OPTION', `evaluate: ${rule}, got ${got}`)
  }
  if (!Number.isFinite(evalLoss) || evalLoss < 0) refuse('evalLoss must be a number of at least 0', evalLoss)
  if (!Number.isInteger(concurrency) || concurrency < 1)
    refuse('concurrency must be a whole number of at least 1', concurrency)
  if (!Number.isInteger(maxReplyLength) || maxReplyLength < 1)
    refuse('maxReplyLength must be a whole number of at least 1', maxReplyLength)
}

/** The answers by scenario, in the order of the suite whatever finishes first. */
async function holdAll(model: EvaluatedModel, suite: Suite, options: EvaluationOptions): Promise<Answered[][]> {
  const total = suite.scenarios.length
  const held = new Array<Answered[]>(total)
  const stop = new AbortController()
  const signal = options.signal === undefined ? stop.signal : AbortSignal.any([options.signal, stop.signal])
  let next = 0
  let done = 0
  const work = async (): Promise<void> => {
    while (next < total) {
      const index = next++
      held[index] = await holdConversation(model, suite.scenarios[index], { ...options, signal })
      options.onProgress?.(++done, total)
    }
  }
  const workers = Array.from({ length: Math.min(options.concurrency ?? 1, total) }, () =>
    work().catch((error: unknown) => {
      stop.abort(error)
      throw error
    }),
  )
  await Promise.allSettled(workers)
  await Promise.all(workers)
  return held
}

async function holdConversation(
  model: EvaluatedModel,
  scenario: Scenario,
  options: EvaluationOptions & { readonly signal: AbortSignal },
): Promise<Answered[]> {
  const turns: Turn[] = options.systemPrompt ? [{ role: 'system', content: options.systemPrompt }] : []
  const answers: Answered[] = []
  for (const [i, script] of scenario.turns.entries()) {
    turns.push({ role: 'user', content: script.user })
    let content = script.given
    if (content === undefined) {
      const before = [...turns]
      const answer = await askModel(model, before, options, `scenario ${scenario.id}, turn ${i + 1}`)
      answers.push({ turn: i + 1, script, before, ...answer })
      content = answer.text
    }
    turns.push({ role: 'assistant', content })
  }
  return answers
}

async function askModel(
  model: EvaluatedModel,
  turns: readonly Turn[],
  options: EvaluationOptions & { readonly signal: AbortSignal },
  where: string,
): Promise<Pick<Answered, 'text' | 'truncated'>> {
  const limit = options.maxReplyLength ?? defaultMaxReplyLength
  const { signal } = options
  signal.throwIfAborted()
  try {
    const text = await readReply(model.reply(turns, signal), limit)
    signal.throwIfAborted()
    return { text: text.slice(0, limit), truncated: text.length > limit }
  } catch (cause) {
    signal.throwIfAborted()
    const message = `evaluate: the model failed to reply at ${where}; see the cause`
    throw new InferError('MIRASTRAL_INFER_EVALUATION', message, { cause, exitCode: 1 })
  }
}

/** Reads a reply in pieces only until it is longer than the limit. */
async function readReply(reply: Promise<string> | AsyncIterable<string>, limit: number): Promise<string> {
  if (!(Symbol.asyncIterator in reply)) return reply
  let text = ''
  for await (const piece of reply) {
    text += piece
    if (text.length > limit) break
  }
  return text
}

function judgeScenario(scenario: Scenario, answers: readonly Answered[], options: EvaluationOptions): ScenarioResult {
  const replies = answers.map((answer, i) => judgeReply(scenario, answer, answers.slice(0, i), options))
  const passed = replies.every((r) => r.violations.length === 0 && r.checks.every((check) => check.passed))
  return { id: scenario.id, kind: scenario.kind, about: scenario.about, passed, replies }
}

function judgeReply(
  scenario: Scenario,
  { turn, script, before, text, truncated }: Answered,
  earlier: readonly Answered[],
  { systemPrompt = '', guard, keepText }: EvaluationOptions,
): ReplyResult {
  const violations = boundaryViolations(text, { allow: scenario.allow, systemPrompt })
  const category = guard === undefined ? undefined : guardEnding(guard, before, text)
  if (category !== undefined) violations.push({ category, source: 'guard' })
  const earlierReplies = earlier.map((answer) => answer.text)
  return {
    turn,
    words: wordsOf(text).length,
    truncated,
    checks: checkReply(text, script, violations).map((check) => ({ ...check, rules: [...check.rules] })),
    violations,
    markers: markersOf(text),
    repetition: repetitionOf(text, earlierReplies),
    ...(keepText === true ? { message: script.user, text } : {}),
  }
}
