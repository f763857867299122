import { InferError } from '../errors.js'
import type { Counts, EvaluationResult } from './result.js'
import { checkNames, scenarioKinds } from './suite.js'

/** One figure of a result. `counts` are there where it is a share of something counted. */
export interface Measure {
  readonly id: string
  readonly group: 'scenarios' | 'safety' | 'technique' | 'repetition' | 'language model'
  readonly form: 'share' | 'number'
  /** Which direction is the wished one. */
  readonly better: 'higher' | 'lower' | 'neither'
  readonly value: number | null
  readonly counts?: Counts
}

/** Every figure of a result, in the order in which they are shown. */
export function measuresOf({ summary }: EvaluationResult): Measure[] {
  const { markers, repetition } = summary
  const counted = (group: Measure['group'], id: string, counts: Counts | undefined): Measure[] =>
    counts === undefined
      ? []
      : [{ id, group, form: 'share', better: 'higher', value: counts.passed / Math.max(1, counts.total), counts }]
  const share = (
    group: Measure['group'],
    better: Measure['better'],
    values: Record<string, number | null>,
  ): Measure[] => Object.entries(values).map(([id, value]) => ({ id, group, form: 'share', better, value }))
  const number = (
    group: Measure['group'],
    better: Measure['better'],
    values: Record<string, number | null>,
  ): Measure[] => Object.entries(values).map(([id, value]) => ({ id, group, form: 'number', better, value }))
  const { reflectionsPerReply, openQuestionsPerReply, reflectionsPerQuestion } = markers
  const { validatingReplies, openQuestionShare, adviceRatio } = markers
  return [
    ...counted('scenarios', 'all', summary.scenarios),
    ...scenarioKinds.flatMap((kind) => counted('scenarios', kind, summary.kinds[kind])),
    ...counted('safety', 'boundaries', summary.boundaries),
    ...checkNames.flatMap((name) => counted('safety', name, summary.checks[name])),
    ...number('technique', 'higher', { reflectionsPerReply, openQuestionsPerReply, reflectionsPerQuestion }),
    ...share('technique', 'higher', { validatingReplies, openQuestionShare }),
    ...share('technique', 'lower', { adviceRatio }),
    ...number('technique', 'neither', { wordsPerReply: summary.wordsPerReply }),
    ...share('repetition', 'lower', repetition),
    ...number('repetition', 'lower', { emptyReplies: summary.emptyReplies }),
    ...number('language model', 'lower', { evalLoss: summary.evalLoss, perplexity: summary.perplexity }),
  ]
}

/** The checks and boundaries that came out differently, reply by reply. */
export interface Comparison {
  /** Passed after, not before. */
  readonly improved: number
  readonly worsened: number
  readonly same: number
  /**
   * Two-sided exact sign test (McNemar): how often a difference at least as lopsided would come about if each of the changed
   * outcomes had been a toss of a coin. 1 where nothing changed.
   */
  readonly pValue: number
}

/**
 * Compares two results of the same suite.
 * @throws InferError MIRASTRAL_INFER_EVALUATION where the suites differ.
 */
export function compareEvaluations(before: EvaluationResult, after: EvaluationResult): Comparison {
  if (before.suite.sha256 !== after.suite.sha256) {
    const name = ({ suite }: EvaluationResult): string => `${suite.id} ${suite.version} (${suite.sha256.slice(0, 8)})`
    const message = `compareEvaluations: both results must be of the same suite, got ${name(before)} and ${name(after)}`
    throw new InferError('MIRASTRAL_INFER_EVALUATION', message)
  }
  const old = outcomesOf(before)
  let [improved, worsened, same] = [0, 0, 0]
  for (const [key, passed] of outcomesOf(after)) {
    if (old.get(key) === passed) same++
    else if (passed) improved++
    else worsened++
  }
  return { improved, worsened, same, pValue: signTest(improved, worsened) }
}

function outcomesOf({ scenarios }: EvaluationResult): Map<string, boolean> {
  const outcomes = new Map<string, boolean>()
  for (const { id, replies } of scenarios)
    for (const { turn, checks, violations } of replies) {
      outcomes.set(`${id} ${turn} boundaries`, violations.length === 0)
      for (const { name, passed } of checks) outcomes.set(`${id} ${turn} ${name}`, passed)
    }
  return outcomes
}

/** Two-sided binomial test with probability 1/2. */
export function signTest(a: number, b: number): number {
  const n = a + b
  let logCoefficient = 0
  let tail = 0
  for (let k = 0; k <= Math.min(a, b); k++) {
    tail += Math.exp(logCoefficient - n * Math.LN2)
    logCoefficient += Math.log(n - k) - Math.log(k + 1)
  }
  return Math.min(1, 2 * tail)
}

/** Wilson's 95% interval of a proportion (Wilson 1927); the whole range where nothing was counted. */
export function wilsonInterval({ passed, total }: Counts): readonly [low: number, high: number] {
  if (total === 0) return [0, 1]
  const z = 1.959964
  const p = passed / total
  const center = p + (z * z) / (2 * total)
  const spread = z * Math.sqrt((p * (1 - p)) / total + (z * z) / (4 * total * total))
  const scale = 1 + (z * z) / total
  return [Math.max(0, (center - spread) / scale), Math.min(1, (center + spread) / scale)]
}
