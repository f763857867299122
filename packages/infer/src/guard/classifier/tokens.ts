import { covered } from '../context/view.js'
import type { SentenceView } from '../context/view.js'
import type { Language } from '../language.js'
import type { RuleHit } from '../rules.js'
import { severities } from '../types.js'

/** A word as the network sees it: the word, and the names of all that the language's data says about its place. */
export interface MarkedWord {
  readonly word: string
  readonly markers: readonly string[]
}

/** Stands after every sentence. */
export const sentenceEnd: MarkedWord = { word: '</s>', markers: ['</s>'] }

/** Every marker that a language can give. */
export function markerNames(language: Language): string[] {
  const classes = new Set([...language.wordClasses.values()].flat())
  const places = ['</s>', 'unknown', 'idiom', 'quoted', 'pause', 'question']
  const rules = [...severities.slice(1), 'settled'].map((name) => `rule ${name}`)
  return [...places, ...rules, ...[...language.vocabulary.keys()].map((name) => `list ${name}`), ...classes]
}

/** The words of each sentence with their markers: classes of meaning, lists, cues and idioms they are part of, and rules. */
export function markWords(
  views: readonly SentenceView[],
  language: Language,
  hits: readonly RuleHit<string>[],
): MarkedWord[][] {
  return views.map((view, s) => {
    const marks = view.sentence.tokens.map(({ word }) => new Set(language.wordClasses.get(word)))
    for (const name of language.vocabulary.keys())
      for (const i of covered(view.cues.findName(name))) marks[i]?.add(`list ${name}`)
    markPlaces(view, marks)
    for (const hit of hits) if (hit.sentence === s) markRule(view, hit, marks)
    const words = view.sentence.tokens.map(({ word }, i) => ({ word, markers: [...(marks[i] ?? [])] }))
    return [...words, sentenceEnd]
  })
}

function markPlaces(view: SentenceView, marks: readonly Set<string>[]): void {
  view.sentence.tokens.forEach((token, i) => {
    if (view.idiomWords.has(i)) marks[i]?.add('idiom')
    if (token.quoted) marks[i]?.add('quoted')
    if (token.afterPause) marks[i]?.add('pause')
    if (view.sentence.question) marks[i]?.add('question')
  })
}

function markRule(view: SentenceView, hit: RuleHit<string>, marks: readonly Set<string>[]): void {
  view.sentence.tokens.forEach(({ span }, i) => {
    if (span.start >= hit.evidence.start && span.end <= hit.evidence.end)
      marks[i]?.add(`rule ${hit.settled ? 'settled' : hit.severity}`)
  })
}
