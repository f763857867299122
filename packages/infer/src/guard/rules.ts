import { isNegated } from './context/negation.js'
import { findSubject, namesWriter } from './context/subject.js'
import type { Subject } from './context/subject.js'
import {
  isDeniedInReply,
  isFigurative,
  isInFiction,
  isQuotedFromElsewhere,
  isReported,
  isTopic,
} from './context/speech.js'
import { readPast, tellsRecovery } from './context/time.js'
import type { SentenceView } from './context/view.js'
import type { Rule } from './language.js'
import type { WordRange } from './pattern/match.js'
import type { Finding, Reading, Severity } from './types.js'

/** How a match is meant, and whether that is certain enough to drop it or only weakens it. */
export interface RuleHit<Category extends string> extends Finding<Category> {
  /** True if the reading leaves no doubt ("I'm not ..."): the match is then worth nothing by itself. */
  readonly settled: boolean
  /** The sentence's index in the text. */
  readonly sentence: number
}

/** All matches of the rules in a text, each with its reading. */
export function applyRules<Category extends string>(
  views: readonly SentenceView[],
  rules: readonly Rule<Category>[],
): RuleHit<Category>[] {
  const recovered = tellsRecovery(views)
  return views.flatMap((view, sentence) =>
    rules.flatMap((rule) =>
      outermost(view.rules.find(rule.pattern, 'shortest')).map((match) => {
        const { reading, settled } = readMatch(rule, view, match, views, recovered)
        return {
          category: rule.category,
          severity: weaken(rule.severity, reading, settled),
          reading,
          settled,
          evidence: evidence(view, match),
          source: rule.id,
          score: 1,
          sentence,
        }
      }),
    ),
  )
}

interface MatchReading {
  readonly reading: Reading
  readonly settled: boolean
}

function readMatch<C extends string>(
  rule: Rule<C>,
  view: SentenceView,
  match: WordRange,
  all: readonly SentenceView[],
  recovered: boolean,
): MatchReading {
  const subject = findSubject(view, match)
  const counts = (reading: Reading): boolean => !rule.ignore.has(reading)
  const own = isFirstPerson(view, match, subject)
  if (counts('quoted') && isQuotedFromElsewhere(view, match, all)) return { reading: 'quoted', settled: true }
  if (counts('negated') && isNegated(view, match, subject)) return { reading: 'negated', settled: true }
  const past = counts('past') ? readPast(view, match, subject, { recovered, wholeMatch: rule.past !== 'any' }) : 'none'
  if (past === 'settled' || (past === 'dated' && rule.past === 'dated')) return { reading: 'past', settled: true }
  if (counts('fiction') && isInFiction(view)) return { reading: 'fiction', settled: !own }
  if (counts('topic') && isTopic(view, match, subject)) return { reading: 'topic', settled: true }
  if (past !== 'none' && rule.past === 'any') return { reading: 'past', settled: false }
  if (rule.subject === 'writer') {
    if (counts('thirdPerson') && !own && subject.who === 'other') return { reading: 'thirdPerson', settled: false }
    if (counts('reported') && isReported(view, match, subject))
      return { reading: 'reported', settled: isDeniedInReply(all) }
  }
  if (rule.unless && view.cues.find(rule.unless).length > 0) return { reading: 'figurative', settled: false }
  if (counts('figurative') && isFigurative(view, match, all)) return { reading: 'figurative', settled: false }
  return { reading: 'plain', settled: false }
}

function isFirstPerson(view: SentenceView, match: WordRange, subject: Subject): boolean {
  return subject.who === 'writer' || namesWriter(view, match)
}

function weaken(severity: Severity, reading: Reading, settled: boolean): Severity {
  if (reading === 'plain') return severity
  return settled ? 'none' : 'concern'
}

function evidence(view: SentenceView, match: WordRange): { start: number; end: number } {
  const tokens = view.sentence.tokens.slice(match.from, match.to)
  return { start: tokens[0]?.span.start ?? 0, end: tokens.at(-1)?.span.end ?? 0 }
}

/** Of matches that lie in one another only the outermost. */
function outermost(matches: readonly WordRange[]): WordRange[] {
  return matches.filter((m) => !matches.some((o) => o !== m && o.from <= m.from && o.to >= m.to))
}
