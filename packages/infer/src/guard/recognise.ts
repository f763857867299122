import { classify } from './classifier/model.js'
import type { LinearClassifier } from './classifier/model.js'
import { extractFeatures } from './classifier/features.js'
import type { Language, Rule } from './language.js'
import { applyRules } from './rules.js'
import type { RuleHit } from './rules.js'
import { readDocument } from './text/document.js'
import type { Sentence, TextDocument } from './text/document.js'
import { severityRank } from './types.js'
import type { Finding, Severity } from './types.js'

/** How the classifier's probabilities are used beside the rules; part of the policy. */
export interface Thresholds {
  /** At or above: an alarm by itself. */
  readonly alarm: number
  /** At or above: a concern by itself; a passage that the rules read as denied, past or told becomes a concern too. */
  readonly concern: number
  /** Below: a rule's alarm is only a concern, and what is only a concern is dropped. */
  readonly doubt: number
}

/** The label of the classifier that says "any alarm". */
export const alarmLabel = 'alarm'

const windowWords = 40

/**
 * Finds dangers in a text by the rules and the classifier together. The rules know subject, denial, time and idiom; the
 * classifier knows wordings that no rule names. Either can raise an alarm; each can turn the other's alarm into a concern,
 * never into silence.
 */
export class Recognizer<Category extends string> {
  readonly #language: Language
  readonly #rules: readonly Rule<Category>[]
  readonly #categories: readonly Category[]
  readonly #classifier: LinearClassifier
  readonly #thresholds: Thresholds
  readonly #wordsPerWindow: number

  constructor(
    language: Language,
    options: {
      readonly rules: readonly Rule<Category>[]
      readonly categories: readonly Category[]
      readonly classifier: LinearClassifier
      readonly thresholds: Thresholds
      /** Sentences are judged together up to this many words, so that one explains the other. Default 40; 0 judges each alone. */
      readonly wordsPerWindow?: number
    },
  ) {
    this.#language = language
    this.#rules = options.rules
    this.#categories = options.categories
    this.#classifier = options.classifier
    this.#thresholds = options.thresholds
    this.#wordsPerWindow = options.wordsPerWindow ?? windowWords
  }

  /** Every danger that the text may name, the worst first. Time grows linearly with the text. */
  recognize(text: string): Finding<Category>[] {
    const document = readDocument(text, this.#language.spelling, this.#language.emoji)
    const windows = splitWindows(document, this.#wordsPerWindow)
    const scores = windows.map((w) =>
      classify(this.#classifier, extractFeatures(w.document, this.#language, this.#classifier.buckets)),
    )
    const scoreAt = (sentence: number): number =>
      scores[windows.findIndex((w) => sentence < w.end)]?.get(alarmLabel) ?? 0
    const byRules = applyRules(document, this.#rules, this.#language).map((hit) =>
      this.#weigh(hit, scoreAt(hit.sentence)),
    )
    const byClassifier = windows.map((w, i) =>
      this.#judge(w.document.sentences, scores[i] ?? new Map<string, number>()),
    )
    const found = [...byRules, ...byClassifier].filter((f) => f !== undefined && f.severity !== 'none')
    return (found as Finding<Category>[]).sort(
      (a, b) => severityRank(b.severity) - severityRank(a.severity) || b.score - a.score,
    )
  }

  #weigh(hit: RuleHit<Category>, score: number): Finding<Category> {
    const { settled, sentence: _, ...finding } = hit
    return { ...finding, severity: this.#weighed(finding.severity, settled, score) }
  }

  #weighed(severity: Severity, settled: boolean, score: number): Severity {
    if (settled) return score >= this.#thresholds.alarm ? 'concern' : 'none'
    if (score >= this.#thresholds.doubt) return severity
    return severity === 'concern' ? 'none' : 'concern'
  }

  /** What the classifier says about some sentences by itself. */
  #judge(sentences: readonly Sentence[], scores: ReadonlyMap<string, number>): Finding<Category> | undefined {
    const score = scores.get(alarmLabel) ?? 0
    const [first] = this.#categories
    if (score < this.#thresholds.concern || first === undefined) return undefined
    const likeliest = this.#categories.reduce((a, b) => ((scores.get(b) ?? 0) > (scores.get(a) ?? 0) ? b : a), first)
    const tokens = sentences.flatMap((s) => s.tokens)
    return {
      category: likeliest,
      severity: score >= this.#thresholds.alarm ? 'high' : 'concern',
      reading: 'plain',
      evidence: { start: tokens[0]?.span.start ?? 0, end: tokens.at(-1)?.span.end ?? 0 },
      source: 'classifier',
      score,
    }
  }
}

interface Window {
  readonly document: TextDocument
  /** The index after its last sentence. */
  readonly end: number
}

function splitWindows(document: TextDocument, words: number): Window[] {
  const windows: Window[] = []
  let sentences: Sentence[] = []
  let count = 0
  document.sentences.forEach((sentence, i) => {
    if (sentences.length > 0 && count + sentence.tokens.length > words) {
      windows.push({ document: { ...document, sentences }, end: i })
      sentences = []
      count = 0
    }
    sentences.push(sentence)
    count += sentence.tokens.length
  })
  if (sentences.length > 0) windows.push({ document: { ...document, sentences }, end: document.sentences.length })
  return windows
}
