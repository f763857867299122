import type { WordRange } from '../pattern/match.js'
import type { Subject } from './subject.js'
import { wordAt } from './view.js'
import type { SentenceView } from './view.js'

/** settled: years ago, or got over. dated: weeks or months ago. open: told in the past tense, perhaps still true. */
export type PastReading = 'settled' | 'dated' | 'open' | 'none'

/**
 * When what a match says was so. The verb must be in the past tense; then a far date or words of recovery settle it, unless
 * the sentence tells of a relapse; a recent date ("last night") makes it present.
 * @param wholeMatch Whether the match's own words tell the tense, or only its first ("wish I were dead" is no past).
 */
export function readPast(
  view: SentenceView,
  match: WordRange,
  subject: Subject,
  context: { readonly recovered: boolean; readonly wholeMatch: boolean },
): PastReading {
  const habit = view.cues.findName('USED_TO').some((r) => r.to <= match.from + 1 && r.to >= match.from - 6)
  const past = habit || isPastTense(view, match, subject, context.wholeMatch)
  if (!past || tellsRelapse(view)) return 'none'
  if (habit || isFar(view)) return 'settled'
  if (hasCue(view, 'RECENT')) return 'none'
  if (context.recovered) return 'settled'
  return hasCue(view, 'PAST_NEAR') ? 'dated' : 'open'
}

/** A far date, in this sentence or in the one before ("Five years ago was different. I wanted to die."). */
function isFar(view: SentenceView): boolean {
  return hasCue(view, 'PAST_FAR') || (view.previous !== undefined && hasCue(view.previous, 'PAST_FAR'))
}

function hasCue(view: SentenceView, name: string): boolean {
  return view.cues.findName(name).length > 0
}

/** "It happened again", but not "never again". */
function tellsRelapse(view: SentenceView): boolean {
  const denied = (from: number): boolean =>
    [1, 2, 3].some((back) => ['never', 'not'].includes(wordAt(view, from - back)))
  return view.cues.findName('RELAPSE').some((r) => !denied(r.from))
}

function isPastTense(view: SentenceView, match: WordRange, subject: Subject, wholeMatch: boolean): boolean {
  const from = subject.who === 'unknown' ? Math.max(0, match.from - 3) : Math.min(subject.at, match.from)
  for (let i = from; i < (wholeMatch ? match.to : match.from + 1); i += 1) {
    if (!view.cues.nameEndsAt('PAST_VERB', i, i + 1) && !(wholeMatch && /[^e]ed$/.test(wordAt(view, i)))) continue
    const perfect = [wordAt(view, i - 1), wordAt(view, i - 2)].some((w) => w === 'have' || w === 'has')
    if (!perfect && wordAt(view, i - 1) !== 'to') return true
  }
  return false
}

/** Whether any sentence of the text says that the bad time is over. */
export function tellsRecovery(views: readonly SentenceView[]): boolean {
  return views.some((view) => hasCue(view, 'RECOVERED'))
}
