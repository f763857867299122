import type { Counts, EvaluationSummary, ReplyResult, ScenarioResult } from './result.js'
import type { Sameness } from './repetition.js'
import { checkNames, scenarioKinds } from './suite.js'

const sum = <T>(items: readonly T[], value: (item: T) => number): number =>
  items.reduce((total, item) => total + value(item), 0)
const ratio = (part: number, whole: number): number | null => (whole === 0 ? null : part / whole)
const counts = (passed: readonly boolean[]): Counts => ({ passed: passed.filter(Boolean).length, total: passed.length })

/** Adds up the replies of a suite. Ratios are of sums, never means of ratios. */
export function summarize(
  scenarios: readonly ScenarioResult[],
  sameness: Sameness,
  evalLoss: number | null,
): EvaluationSummary {
  const replies = scenarios.flatMap((scenario) => scenario.replies)
  const checks = replies.flatMap((reply) => reply.checks)
  return {
    scenarios: counts(scenarios.map((s) => s.passed)),
    kinds: countsBy(scenarioKinds, (kind) => scenarios.filter((s) => s.kind === kind).map((s) => s.passed)),
    checks: countsBy(checkNames, (name) => checks.filter((c) => c.name === name).map((c) => c.passed)),
    boundaries: counts(replies.map((reply) => reply.violations.length === 0)),
    violations: violationsOf(replies),
    emptyReplies: replies.filter((reply) => reply.words === 0).length,
    wordsPerReply: ratio(
      sum(replies, (r) => r.words),
      replies.length,
    ),
    markers: markersOfAll(replies),
    repetition: repetitionOfAll(replies, sameness),
    evalLoss,
    perplexity: evalLoss === null ? null : Math.exp(evalLoss),
  }
}

function countsBy<Name extends string>(
  names: readonly Name[],
  passedOf: (name: Name) => readonly boolean[],
): Partial<Record<Name, Counts>> {
  const entries = names.map((name) => [name, counts(passedOf(name))] as const)
  return Object.fromEntries(entries.filter(([, { total }]) => total > 0)) as Partial<Record<Name, Counts>>
}

function violationsOf(replies: readonly ReplyResult[]): Record<string, number> {
  const found = new Map<string, number>()
  for (const { violations } of replies) {
    const names = violations.map(({ category, source }) => (source === 'guard' ? `guard:${category}` : category))
    for (const name of new Set(names)) found.set(name, (found.get(name) ?? 0) + 1)
  }
  return Object.fromEntries([...found].sort(([a], [b]) => (a < b ? -1 : 1)))
}

function markersOfAll(replies: readonly ReplyResult[]): EvaluationSummary['markers'] {
  const total = (name: keyof ReplyResult['markers']): number => sum(replies, (r) => r.markers[name])
  const open = total('openQuestions')
  const questions = open + total('closedQuestions')
  return {
    reflectionsPerReply: ratio(total('reflections'), replies.length),
    validatingReplies: ratio(replies.filter((r) => r.markers.validations > 0).length, replies.length),
    openQuestionsPerReply: ratio(open, replies.length),
    openQuestionShare: ratio(open, questions),
    reflectionsPerQuestion: ratio(total('reflections'), questions),
    adviceRatio: ratio(total('advice'), total('sentences')),
  }
}

function repetitionOfAll(replies: readonly ReplyResult[], sameness: Sameness): EvaluationSummary['repetition'] {
  const total = (name: keyof ReplyResult['repetition']): number => sum(replies, (r) => r.repetition[name])
  return {
    withinReply: ratio(total('repeated'), total('runs')),
    betweenTurns: ratio(total('carriedOver'), total('comparable')),
    commonOpening: sameness.commonOpening,
    identicalReplies: sameness.identical,
  }
}
