import type { WordRange } from '../pattern/match.js'
import { namesWriter } from './subject.js'
import type { Subject } from './subject.js'
import { wordAt } from './view.js'
import type { SentenceView } from './view.js'

/** Whether the match stands in quotation marks and somebody else, or a text, is named as the speaker. */
export function isQuotedFromElsewhere(view: SentenceView, match: WordRange, all: readonly SentenceView[]): boolean {
  const tokens = view.sentence.tokens.slice(match.from, match.to)
  if (!tokens[0]?.quoted || tokens.filter((t) => t.quoted).length * 2 < tokens.length) return false
  if (view.cues.findName('QUOTE_SELF').some((r) => r.to <= match.from && r.to >= match.from - 4)) return false
  return all.some((v) => outsideQuotation(v, 'QUOTE_SOURCE') || outsideQuotation(v, 'FICTION_FRAME'))
}

function outsideQuotation(view: SentenceView, name: string): boolean {
  return view.cues.findName(name).some((r) => !view.sentence.tokens.slice(r.from, r.to).some((t) => t.quoted))
}

/** "My mother thinks I want to ...", "the form asks whether I ...": what others say or ask about the writer. */
export function isReported(view: SentenceView, match: WordRange, subject: Subject): boolean {
  const end = subject.who === 'writer' ? subject.at : match.from
  return view.cues.findName('REPORTED_SPEECH').some((r) => {
    if (r.from >= end || r.to < end - 1 || r.to > match.from + 1) return false
    return wordAt(view, r.from) !== 'i' && wordAt(view, r.from - 1) !== 'i'
  })
}

/** Whether the writer says that they denied it ("... and I said no"). */
export function isDeniedInReply(all: readonly SentenceView[]): boolean {
  return all.some((view) => view.cues.findName('DENIED_REPLY').length > 0)
}

/** Whether the sentence, or the one before it, is set in a film, a book, a game. */
export function isInFiction(view: SentenceView): boolean {
  return [view, view.previous].some((v) => (v?.cues.findName('FICTION_FRAME').length ?? 0) > 0)
}

/** Whether the match only names a topic: of a question, a lesson, somebody's work. */
export function isTopic(view: SentenceView, match: WordRange, subject: Subject): boolean {
  if (namesWriter(view, match) || subject.who === 'writer') return false
  const aboutWriter = view.sentence.tokens.some((t) => ['i', 'me', 'my', 'myself'].includes(t.word))
  return (view.sentence.question && !aboutWriter) || view.cues.findName('TOPIC').some((r) => r.from < match.to)
}

/** A laugh, or a condition that nobody dies of ("if this printer jams again"). */
export function isFigurative(view: SentenceView, match: WordRange, all: readonly SentenceView[]): boolean {
  if (all.some((v) => v.cues.findName('JOKE').length > 0)) return true
  return view.cues.findName('CONDITION').some((r) => r.from >= match.to)
}
