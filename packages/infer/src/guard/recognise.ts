import { runNetwork } from './classifier/network.js'
import type { GuardNetwork } from './classifier/network.js'
import { markWords } from './classifier/tokens.js'
import type { MarkedWord } from './classifier/tokens.js'
import { viewSentences } from './context/view.js'
import type { Language, Rule } from './language.js'
import { applyRules } from './rules.js'
import type { RuleHit } from './rules.js'
import { readDocument } from './text/document.js'
import type { TextDocument, Token } from './text/document.js'
import { isAlarm, severityRank } from './types.js'
import type { Finding, Severity, Span } from './types.js'

/** How the classifier's probabilities are used beside the rules; part of the policy. */
export interface Thresholds {
  /** At or above: an alarm by itself. */
  readonly alarm: number
  /** An alarm of the classifier is acute if its probability of danger now is at or above this. */
  readonly acute: number
  /** At or above: a concern by itself; a passage that the rules read as denied, past or told becomes a concern too. */
  readonly concern: number
  /** Below: a rule's alarm is only a concern, and what is only a concern is dropped. */
  readonly doubt: number
}

/** What the classifier tells before the categories: any alarm, danger now, anything at all. */
export const alarmLabels = ['alarm', 'acute', 'any'] as const

const longestWindow = 60

interface Window {
  readonly words: readonly MarkedWord[]
  readonly span: Span
  /** The index after its last sentence. */
  readonly end: number
}

/**
 * Finds dangers in a text by the rules and the classifier together. The rules know subject, denial, time and idiom; the
 * classifier, a small recurrent network that also sees what the rules found, knows wordings that no rule names. Either can
 * raise an alarm; the classifier can turn a rule's alarm into a concern, never into silence.
 */
export class Recognizer<Category extends string> {
  readonly #language: Language
  readonly #rules: readonly Rule<Category>[]
  readonly #categories: readonly Category[]
  readonly #classifier: GuardNetwork
  readonly #thresholds: Thresholds
  readonly #wordsPerWindow: number

  constructor(
    language: Language,
    options: {
      readonly rules: readonly Rule<Category>[]
      readonly categories: readonly Category[]
      readonly classifier: GuardNetwork
      readonly thresholds: Thresholds
      /** Sentences are judged together up to this many words, so that one explains the other. Default 60; 0 judges each alone. */
      readonly wordsPerWindow?: number
    },
  ) {
    this.#language = language
    this.#rules = options.rules
    this.#categories = options.categories
    this.#classifier = options.classifier
    this.#thresholds = options.thresholds
    this.#wordsPerWindow = options.wordsPerWindow ?? longestWindow
  }

  /** Every danger that the text may name, the worst first. Time grows linearly with the text. */
  recognize(text: string): Finding<Category>[] {
    const document = readDocument(text, this.#language.spelling, this.#language.emoji)
    const views = viewSentences(document, this.#language)
    const hits = applyRules(views, this.#rules)
    const marked = markWords(views, this.#language, hits)
    const windows = splitWindows(document, marked, this.#wordsPerWindow)
    const judged = windows.map((window) => ({ window, scores: runNetwork(this.#classifier, window.words) }))
    const inContext = alarmBySentence(judged)
    // Much harmless talk around it must not hide what a rule knows: its surroundings are judged by themselves too.
    const alone = memoize((words: readonly MarkedWord[]) => runNetwork(this.#classifier, words).get('alarm') ?? 0)
    const byRules = hits.map((hit) => {
      const context = inContext[hit.sentence] ?? 0
      if (!isAlarm(hit.severity)) return this.#weigh(hit, context)
      const near = surroundings(document.sentences[hit.sentence]?.tokens ?? [], marked[hit.sentence] ?? [], hit)
      const isAll = judged.length === 1 && judged[0].window.words.length === near.words.length
      if (isAll) return this.#weigh(hit, context)
      return this.#weigh(hit, Math.max(context, alone(near.at, near.words)))
    })
    const byClassifier = judged.flatMap(({ window, scores }) => this.#judge(window, scores))
    return [...byRules, ...byClassifier]
      .filter((finding) => finding.severity !== 'none')
      .sort((a, b) => severityRank(b.severity) - severityRank(a.severity) || b.score - a.score)
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
  #judge({ span }: Window, scores: ReadonlyMap<string, number>): Finding<Category>[] {
    const score = scores.get('alarm') ?? 0
    const [first] = this.#categories
    if (score < this.#thresholds.concern || first === undefined) return []
    const category = this.#categories.reduce((a, b) => ((scores.get(b) ?? 0) > (scores.get(a) ?? 0) ? b : a), first)
    const alarm = (scores.get('acute') ?? 0) >= this.#thresholds.acute ? 'acute' : 'high'
    const severity = score >= this.#thresholds.alarm ? alarm : 'concern'
    return [{ category, severity, reading: 'plain', evidence: span, source: 'classifier', score }]
  }
}

/** The sentence of a rule's match, or, where it is long, the words around the match; `at` tells places apart. */
function surroundings(
  tokens: readonly Token[],
  marked: readonly MarkedWord[],
  { evidence }: { readonly evidence: Span },
): { readonly at: number; readonly words: readonly MarkedWord[] } {
  if (marked.length <= longestWindow) return { at: tokens[0]?.span.start ?? 0, words: marked }
  const match = tokens.findIndex(({ span }) => span.start >= evidence.start)
  const from = Math.max(0, match - longestWindow / 6)
  return { at: tokens[from]?.span.start ?? 0, words: marked.slice(from, from + longestWindow / 2) }
}

function memoize<T>(compute: (value: T) => number): (key: number, value: T) => number {
  const known = new Map<number, number>()
  return (key, value) => {
    const result = known.get(key) ?? compute(value)
    known.set(key, result)
    return result
  }
}

/** The highest probability of an alarm among the windows that hold a sentence, by the sentence's index. */
function alarmBySentence(
  judged: readonly { readonly window: Window; readonly scores: ReadonlyMap<string, number> }[],
): number[] {
  const scores: number[] = []
  let from = 0
  for (const { window, scores: labels } of judged) {
    for (let sentence = from; sentence < window.end; sentence += 1)
      scores[sentence] = Math.max(scores[sentence] ?? 0, labels.get('alarm') ?? 0)
    from = window.end - 1
  }
  return scores
}

/** Whole sentences up to `most` words together; a sentence that is too long by itself is cut into several windows. */
function splitWindows(document: TextDocument, marked: readonly (readonly MarkedWord[])[], most: number): Window[] {
  const windows: Window[] = []
  let last: Window | undefined
  marked.forEach((words, s) => {
    const tokens = document.sentences[s]?.tokens ?? []
    for (let from = 0; from < words.length; from += longestWindow) {
      const part = words.slice(from, from + longestWindow)
      const start = tokens[from]?.span.start ?? tokens.at(-1)?.span.end ?? 0
      const end = tokens[Math.min(from + part.length, tokens.length) - 1]?.span.end ?? start
      if (last && last.words.length + part.length <= most) {
        last = { words: [...last.words, ...part], span: { start: last.span.start, end }, end: s + 1 }
        windows[windows.length - 1] = last
      } else windows.push((last = { words: part, span: { start, end }, end: s + 1 }))
    }
  })
  return windows
}
