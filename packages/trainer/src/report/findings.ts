import { formatCount, formatNumber } from '../format.js'
import type { Evaluation } from '../state.js'
import type { ReportData } from './data.js'
import { isPreference } from './data.js'
import { describePreferences } from './preference-findings.js'

export interface Finding {
  readonly tone: 'good' | 'neutral' | 'bad'
  readonly text: string
}

/** What a person would conclude from the curves, in sentences; the worst first. */
export function findingsOf(data: ReportData): Finding[] {
  const run = data.train.at(-1)?.run ?? 1
  const evaluations = data.evaluations.filter((e) => e.run === run)
  const found = [
    ...describeState(data),
    ...describeSkips(data),
    ...describeEvaluations(evaluations),
    ...(isPreference(data) ? describePreferences(data, evaluations) : describeGap(data, run, evaluations)),
    ...describeLoss(data, run),
  ]
  const order = { bad: 0, good: 1, neutral: 2 }
  return found.sort((a, b) => order[a.tone] - order[b.tone])
}

function describeState({ status, message }: ReportData): Finding[] {
  if (status === 'diverged') return [{ tone: 'bad', text: message }]
  return []
}

function describeSkips({ train }: ReportData): Finding[] {
  const overflows = train.filter((record) => record.skipped === 'float16 overflow').length
  const skipped = train.filter((record) => record.skipped !== undefined).length - overflows
  const spikes = train.filter((record) => record.spike === true).length
  const found: Finding[] = []
  if (skipped > 0) {
    found.push({
      tone: 'bad',
      text: `${steps(skipped)} skipped because a loss or gradient was not finite, or nothing was trained.`,
    })
  }
  if (overflows > 0) {
    const tone = overflows > 0.05 * train.length + 4 ? 'bad' : 'neutral'
    found.push({ tone, text: `${steps(overflows)} skipped while the loss scale of float16 was found.` })
  }
  if (spikes > 0)
    found.push({
      tone: 'bad',
      text: `The loss jumped at ${steps(spikes)}: look at the data there, or lower the learning rate.`,
    })
  return found
}

const steps = (count: number): string => `${formatCount(count)} ${count === 1 ? 'step' : 'steps'}`

function describeEvaluations(evaluations: readonly Evaluation[]): Finding[] {
  const [first, last] = [evaluations.at(0), evaluations.at(-1)]
  if (!first || !last)
    return [
      {
        tone: 'neutral',
        text: 'Nothing was evaluated: the training loss alone does not show whether the model generalises.',
      },
    ]
  const best = evaluations.reduce((a, b) => (b.evalLoss < a.evalLoss ? b : a))
  if (evaluations.length === 1) {
    return [{ tone: 'neutral', text: `Evaluated once, at step ${last.step}: loss ${formatNumber(last.evalLoss)}.` }]
  }
  const change = `from ${formatNumber(first.evalLoss)} to ${formatNumber(last.evalLoss)}`
  const rise = last.evalLoss / best.evalLoss - 1
  if (best !== first && rise > 0.02) {
    const text = `The evaluation loss was best at step ${best.step} (${formatNumber(best.evalLoss)}) and has risen by ${(100 * rise).toFixed(1)}% since: the model began to overfit. loadBestModelAtEnd keeps the best one.`
    return [{ tone: 'bad', text }]
  }
  const fall = 100 * (1 - last.evalLoss / first.evalLoss)
  if (fall < -0.1) return [{ tone: 'bad', text: `The evaluation loss did not improve: ${change}.` }]
  if (fall < 1) return [{ tone: 'neutral', text: `The evaluation loss hardly moved: ${change}.` }]
  const text = `The evaluation loss fell by ${fall.toFixed(1)}%, ${change}${best === last ? ', and was still falling at the last evaluation' : ''}.`
  return [{ tone: 'good', text }]
}

/** A model that is much better on what it has seen may only have learned that by heart. */
function describeGap({ train }: ReportData, run: number, evaluations: readonly Evaluation[]): Finding[] {
  const last = evaluations.at(-1)
  const losses = train.filter((record) => record.run === run).flatMap(({ loss }) => (loss === null ? [] : [loss]))
  if (!last || losses.length < 10) return []
  const recent = meanOf(losses.slice(-Math.max(5, Math.floor(losses.length / 10))))
  const found: Finding[] = []
  if (last.evalLoss > 1.1 * recent) {
    const text = `The model does better on what it was trained on (loss ${formatNumber(recent)}) than on what was held out (${formatNumber(last.evalLoss)}): more data would help more than more epochs.`
    found.push({ tone: 'neutral', text })
  }
  if (last.evalTokens < 2000) {
    const text = `Only ${formatCount(last.evalTokens)} tokens were evaluated on: small differences between evaluations say little.`
    found.push({ tone: 'neutral', text })
  }
  return found
}

const meanOf = (values: readonly number[]): number => values.reduce((a, b) => a + b, 0) / values.length

function describeLoss({ train }: ReportData, run: number): Finding[] {
  const losses = train.filter((record) => record.run === run).flatMap(({ loss }) => (loss === null ? [] : [loss]))
  if (losses.length < 10) return []
  const part = Math.max(1, Math.floor(losses.length / 10))
  const [begin, end] = [meanOf(losses.slice(0, part)), meanOf(losses.slice(-part))]
  const tone = end < begin ? 'good' : 'bad'
  const verb = end < begin ? 'fell' : 'did not fall'
  return [
    {
      tone,
      text: `The training loss ${verb}: ${formatNumber(begin)} in the first tenth of the steps, ${formatNumber(end)} in the last.`,
    },
  ]
}
