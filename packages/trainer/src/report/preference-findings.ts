import { formatCount, formatNumber } from '../format.js'
import { MARGIN } from '../preference.js'
import type { Evaluation } from '../state.js'
import type { ReportData } from './data.js'
import type { Finding } from './findings.js'

/** Fewer evaluation pairs than this are chance. */
const fewPairs = 20

/** What the rewards of preference training say. */
export function describePreferences({ train }: ReportData, evaluations: readonly Evaluation[]): Finding[] {
  const last = evaluations.at(-1)
  const rewards = (last ?? train.at(-1))?.metrics ?? {}
  const found: Finding[] = []
  if (last) {
    const share = `${Math.round(100 * last.evalTokenAccuracy)}% of the held-out pairs`
    const margin = formatNumber(rewards[MARGIN])
    if (last.evalTokenAccuracy > 0.5) {
      const text = `The chosen answer is preferred in ${share}, by a reward margin of ${margin}.`
      found.push({ tone: 'good', text })
    } else {
      const text = `The chosen answer is preferred in only ${share}: no better than chance.`
      found.push({ tone: 'bad', text })
    }
    if (last.evalTokens < fewPairs) {
      const text = `Only ${formatCount(last.evalTokens)} pairs were evaluated on, which is too few to rely on.`
      found.push({ tone: 'neutral', text })
    }
  }
  const chosen = rewards['rewards/chosen'] ?? 0
  if (chosen < 0) {
    const text = `The chosen answers have become less likely than they were without the adapter (reward ${formatNumber(chosen)}): the model moves away from the rejected ones, and from the chosen ones with them. A larger dpoBeta or a lower rate holds it nearer.`
    found.push({ tone: 'bad', text })
  }
  return found
}
