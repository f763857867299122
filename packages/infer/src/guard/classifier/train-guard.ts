import type { Language } from '../language.js'
import { alarmLabel } from '../recognise.js'
import { readDocument } from '../text/document.js'
import { inputCategories, outputCategories } from '../types.js'
import type { Severity } from '../types.js'
import { extractFeatures } from './features.js'
import type { LinearClassifier } from './model.js'
import { trainClassifier } from './train.js'

/** A sentence with what the guard should find in it; `category` is `none` where it should find nothing. */
export interface GuardSentence {
  readonly direction: 'input' | 'output'
  readonly category: string
  readonly severity: Severity
  readonly text: string
  /** Its weight in the loss. Default 1. */
  readonly weight?: number
}

const buckets = { input: 2 ** 15, output: 2 ** 12 } as const

/**
 * Trains the classifier of one direction: one label for "any alarm" and one for each category. A concern counts half.
 * Deterministic: the same sentences in the same order give the same weights.
 */
export function trainGuardClassifier(
  language: Language,
  direction: 'input' | 'output',
  sentences: readonly GuardSentence[],
): LinearClassifier {
  const labels = [alarmLabel, ...(direction === 'input' ? inputCategories : outputCategories)]
  const size = buckets[direction]
  const examples = sentences.map((sentence) => {
    const target = { none: 0, concern: 0.5, high: 1, acute: 1 }[sentence.severity]
    return {
      features: extractFeatures(readDocument(sentence.text, language.spelling, language.emoji), language, size),
      targets: labels.map((label) => (label === alarmLabel || label === sentence.category ? target : 0)),
      weight: sentence.weight ?? 1,
    }
  })
  return trainClassifier(examples, { labels, buckets: size, epochs: 20, learningRate: 0.5, decay: 1e-5 })
}
