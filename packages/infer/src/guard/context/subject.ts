import { wordAt } from './view.js'
import type { SentenceView } from './view.js'
import type { WordRange } from '../pattern/match.js'

/** Who does or feels what a match says. */
export interface Subject {
  readonly who: 'writer' | 'other' | 'unknown'
  /** The word that says so, or where the search ended. */
  readonly at: number
}

const selfWords: ReadonlySet<string> = new Set(['myself', 'me', 'i', 'mine', 'us', 'we'])
const others: ReadonlySet<string> = new Set([
  'he',
  'she',
  'they',
  'who',
  'you',
  'him',
  'her',
  'them',
  'people',
  'someone',
  'everyone',
  'somebody',
])
/** Words that may stand between a subject and its verb. */
const between: ReadonlySet<string> = new Set(
  (
    'am is are was were be been being have has had do does did will would can could should might may must shall not never no ' +
    'really just actually so very still always often sometimes only even also honestly seriously literally truly simply finally ' +
    'definitely probably maybe now lately constantly all again fucking already secretly currently kind of sort ever almost nearly ' +
    'got getting keep keeps to going about feel like thinking'
  ).split(' '),
)
const furthest = 9

/**
 * The nearest subject to the left of a match, past auxiliaries and adverbs. A fragment without one ("want to die") is about
 * the writer, unless its verb has the ending of the third person.
 */
export function findSubject(view: SentenceView, match: WordRange): Subject {
  for (let i = match.from - 1; i >= Math.max(0, match.from - furthest); i -= 1) {
    const word = wordAt(view, i)
    if (word === 'i' || word === 'we') return { who: 'writer', at: i }
    if (others.has(word)) return { who: 'other', at: i }
    if (view.cues.nameEndsAt('PERSON', i - 3, i + 1))
      return { who: isThirdPerson(view, match, i) ? 'other' : 'unknown', at: i }
    if (!between.has(word)) break
  }
  if (hasThirdPersonEnding(wordAt(view, match.from))) return { who: 'other', at: match.from }
  return { who: mentionsOnlyOthers(view, match) ? 'other' : 'unknown', at: match.from }
}

/** Whether the words of the match themselves say that it is about the writer ("kill myself", "my wrists", not "my brother"). */
export function namesWriter(view: SentenceView, match: WordRange): boolean {
  for (let i = match.from; i < match.to; i += 1) {
    const word = wordAt(view, i)
    if (selfWords.has(word)) return true
    if (word === 'my' && !view.cues.nameEnds('PERSON', i + 1).some((end) => end > i + 1)) return true
  }
  return false
}

/** A noun before the verb is its subject if the verb agrees with it, or if nothing in the sentence is about the writer. */
function isThirdPerson(view: SentenceView, match: WordRange, noun: number): boolean {
  const verb = view.sentence.tokens.slice(noun + 1, match.from + 1).map((t) => t.word)
  if (verb.some((w) => ['is', 'are', 'was', 'were', 'has', 'does'].includes(w) || hasThirdPersonEnding(w))) return true
  return !view.sentence.tokens.slice(0, noun).some((t) => t.word === 'i')
}

function hasThirdPersonEnding(word: string): boolean {
  return /^(wants|wishes|plans|thinks|hopes|feels|tries|attempts|decides|intends|keeps|says|talks|needs|considers|dreams|threatens|has|hears|sees)$/.test(
    word,
  )
}

/** Nothing in the sentence is about the writer, and it is about somebody, or begins as a statement about a thing. */
function mentionsOnlyOthers(view: SentenceView, match: WordRange): boolean {
  const words = view.sentence.tokens.map((t) => t.word)
  if (words.some((w) => ['i', 'me', 'myself', 'mine'].includes(w))) return false
  if (match.from > 0 && ['the', 'a', 'an', 'many', 'some', 'most', 'his', 'her', 'their'].includes(words[0] ?? ''))
    return true
  return words.slice(0, match.from).some((w, i) => others.has(w) || view.cues.nameEndsAt('PERSON', i - 2, i + 1))
}
