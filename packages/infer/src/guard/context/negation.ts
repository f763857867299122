import type { WordRange } from '../pattern/match.js'
import type { Subject } from './subject.js'
import { beginsClause, covered, wordAt } from './view.js'
import type { SentenceView } from './view.js'

const reach = 7
const denials: ReadonlySet<string> = new Set([
  'not',
  'never',
  'no',
  'nor',
  'nothing',
  'nobody',
  'none',
  'without',
  'hardly',
  'barely',
])

/**
 * Whether what a match says is denied. A negation reaches from its word to the right until the clause ends or a new subject
 * begins, unless that subject hangs on a verb of thinking ("I don't think I want to die"). Negations that deny something else
 * ("I can't stop ...", "I'm not sure ...") do not count. What follows can deny as well ("... is not an option").
 */
export function isNegated(view: SentenceView, match: WordRange, subject: Subject): boolean {
  if (containsDenial(view, match)) return false
  return deniedAfter(view, match) || deniedFrame(view, match, subject) || negatorBefore(view, match, subject)
}

/** "Not want to live" says by itself what is denied; gaps do not reach over such words, so the pattern asked for them. */
function containsDenial(view: SentenceView, match: WordRange): boolean {
  return view.sentence.tokens.slice(match.from, match.to).some((t) => denials.has(t.word))
}

function deniedAfter(view: SentenceView, match: WordRange): boolean {
  return [match.to - 1, match.to, match.to + 1].some(
    (at) => at > match.from && view.cues.nameEnds('DENIED_AFTER', at).length > 0,
  )
}

/** "I have no plans to ...", "I never thought of ...": a frame that ends where the match begins. */
function deniedFrame(view: SentenceView, match: WordRange, subject: Subject): boolean {
  const start = clauseStart(view, match.from)
  if (touchesInert(view, start, match.from)) return false
  const from = subject.who === 'writer' ? Math.max(start, subject.at - 6) : start
  return [match.from, match.from - 1, match.from + 1].some(
    (end) => end > from && end <= match.to && view.cues.nameEndsAt('DENIED_FRAME', from, end),
  )
}

function touchesInert(view: SentenceView, from: number, to: number): boolean {
  const inert = covered(view.cues.findName('INERT_NEGATION'))
  for (let i = from; i < to; i += 1) if (inert.has(i) && isNegator(view, i)) return true
  return false
}

function negatorBefore(view: SentenceView, match: WordRange, subject: Subject): boolean {
  const inert = covered(view.cues.findName('INERT_NEGATION'))
  for (let i = match.from - 1; i >= Math.max(0, match.from - reach); i -= 1) {
    if (isNegator(view, i) && !inert.has(i)) return true
    const token = view.sentence.tokens[i]
    if (token?.word === 'i' && i <= subject.at && !passesOn(view, i)) return false
    if (beginsClause(token) || token?.word === 'and' || token?.word === 'because') return false
  }
  return false
}

function isNegator(view: SentenceView, index: number): boolean {
  return view.cues.nameEndsAt('NEGATOR', index - 1, index + 1)
}

/** Whether the clause before this subject hands its negation on: "I don't think I ...", "it's not that I ...". */
function passesOn(view: SentenceView, subject: number): boolean {
  return subject > 0 && view.cues.nameEndsAt('NEGATION_PASSES', subject - 2, subject)
}

function clauseStart(view: SentenceView, from: number): number {
  let start = from
  while (start > 0 && !beginsClause(view.sentence.tokens[start]) && wordAt(view, start) !== 'and') start -= 1
  return start
}
