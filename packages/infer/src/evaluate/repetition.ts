import { ngramsOf } from './text/ngrams.js'
import { wordsOf } from './text/sentences.js'

export const repetitionSize = 4
const openingSize = 3

/** Runs of four words in a reply: how many there are, how many came twice, how many an earlier reply had already. */
export interface Repetition {
  readonly runs: number
  /** Runs less different runs. Divided by `runs` this is the seq-rep-4 of Welleck et al. 2020, over words. */
  readonly repeated: number
  /** Runs that the model's earlier replies of the same conversation contain. */
  readonly carriedOver: number
  /** The runs of a reply to which there was an earlier one; 0 for a first reply. */
  readonly comparable: number
}

export function repetitionOf(reply: string, earlierReplies: readonly string[]): Repetition {
  const runs = ngramsOf(wordsOf(reply), repetitionSize)
  const earlier = new Set(earlierReplies.flatMap((text) => ngramsOf(wordsOf(text), repetitionSize)))
  return {
    runs: runs.length,
    repeated: runs.length - new Set(runs).size,
    carriedOver: runs.filter((run) => earlier.has(run)).length,
    comparable: earlierReplies.length === 0 ? 0 : runs.length,
  }
}

/** How alike the replies of a whole suite are. Shares in [0, 1], null where there are no replies. */
export interface Sameness {
  /** Replies that begin with the three words with which most replies begin. */
  readonly commonOpening: number | null
  /** Replies whose words were given to another message as well. */
  readonly identical: number | null
}

export function samenessOf(replies: readonly string[]): Sameness {
  const words = replies.map(wordsOf).filter((list) => list.length > 0)
  if (words.length === 0) return { commonOpening: null, identical: null }
  const openings = tally(words.map((list) => list.slice(0, openingSize).join(' ')))
  const texts = tally(words.map((list) => list.join(' ')))
  const shared = [...texts.values()].filter((count) => count > 1).reduce((sum, count) => sum + count, 0)
  return { commonOpening: Math.max(...openings.values()) / words.length, identical: shared / words.length }
}

function tally(keys: readonly string[]): Map<string, number> {
  const counts = new Map<string, number>()
  for (const key of keys) counts.set(key, (counts.get(key) ?? 0) + 1)
  return counts
}
