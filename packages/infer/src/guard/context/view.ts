import type { Language } from '../language.js'
import { SentenceMatcher } from '../pattern/match.js'
import type { WordRange } from '../pattern/match.js'
import type { Sentence, TextDocument, Token } from '../text/document.js'

/** Words after which a clause says something new: what was negated or told before them does not reach past them. */
export const clauseTurns: ReadonlySet<string> = new Set(['but', 'however', 'though', 'although', 'yet'])

/** A word that no pattern matches: it stands where an idiom was. */
const masked = '\u0000'

/** One sentence with the means to look around in it. */
export interface SentenceView {
  readonly sentence: Sentence
  /** The sentence before it, if there is one. */
  readonly previous: SentenceView | undefined
  /** Matches on the sentence as it is: for cues. */
  readonly cues: SentenceMatcher
  /** Matches on the sentence with its idioms blotted out: for rules. */
  readonly rules: SentenceMatcher
  readonly idiomWords: ReadonlySet<number>
}

export function viewSentences(document: TextDocument, language: Language): SentenceView[] {
  const views: SentenceView[] = []
  for (const sentence of document.sentences) {
    const cues = new SentenceMatcher(sentence, language.vocabulary, clauseTurns)
    const idiomWords = covered(cues.find(language.idioms))
    const tokens = sentence.tokens.map((token, i) => (idiomWords.has(i) ? { ...token, word: masked } : token))
    const rules =
      idiomWords.size === 0 ? cues : new SentenceMatcher({ ...sentence, tokens }, language.vocabulary, clauseTurns)
    views.push({ sentence, previous: views.at(-1), cues, rules, idiomWords })
  }
  return views
}

export function covered(ranges: readonly WordRange[]): Set<number> {
  const words = new Set<number>()
  for (const range of ranges) for (let i = range.from; i < range.to; i += 1) words.add(i)
  return words
}

export function wordAt(view: SentenceView, index: number): string {
  return view.sentence.tokens[index]?.word ?? ''
}

/** Whether a clause begins at this word: after a comma or its like, or at a word that turns the sentence. */
export function beginsClause(token: Token | undefined): boolean {
  return token === undefined || token.afterPause || clauseTurns.has(token.word)
}
