import type { PreferenceDraft, Turn } from '../conversation.js'
import { asPrompt } from '../formats/prompt-completion.js'
import { normalize } from './normalize.js'
import type { NormalizeOptions } from './normalize.js'
import { RecordError } from './rules.js'
import type { Adjustment } from './rules.js'

export interface NormalizedPair {
  draft: PreferenceDraft
  adjustments: Adjustment[]
}

/**
 * Brings a preference into the form that chat templates need: the prompt with either answer is normalised like any other
 * conversation, and the prompt stays the same for both.
 *
 * @throws RecordError where that is not possible, or an answer has nothing to train on.
 */
export function normalizePair(pair: PreferenceDraft, options: NormalizeOptions): NormalizedPair {
  const last = pair.prompt.findLast((turn) => turn.role === 'tool' || turn.content.trim() !== '' || hasCalls(turn))
  if (last?.role !== 'user' && last?.role !== 'tool') throw new RecordError('prompt-not-open', 'prompt')
  const chosen = normalizeSide(pair, 'chosen', options)
  const rejected = normalizeSide(pair, 'rejected', options)
  const { prompt } = chosen
  if (JSON.stringify(prompt) !== JSON.stringify(rejected.prompt)) throw new RecordError('invalid-shape', 'prompt')
  const { tools } = pair
  return {
    draft: { prompt, chosen: chosen.answer, rejected: rejected.answer, ...(tools === undefined ? {} : { tools }) },
    adjustments: [...new Set([...chosen.adjustments, ...rejected.adjustments])],
  }
}

interface Side {
  prompt: Turn[]
  answer: Turn[]
  adjustments: Adjustment[]
}

function normalizeSide(pair: PreferenceDraft, side: 'chosen' | 'rejected', options: NormalizeOptions): Side {
  const answer = pair[side]
  if (answer.some((turn) => turn.role === 'system')) throw new RecordError('invalid-shape', side)
  if (!answer.some((turn) => turn.role === 'assistant')) throw new RecordError('nothing-to-train-on', side)
  if (answer[0].role !== 'assistant') throw new RecordError('prompt-not-open', side)
  const turns = [...asPrompt(pair.prompt), ...answer.map(asTrained)]
  const { tools } = pair
  const { draft, adjustments } = normalize(tools === undefined ? { turns } : { turns, tools }, options)
  const first = draft.turns.findIndex((turn) => turn.role === 'assistant' && turn.train !== false)
  return { prompt: draft.turns.slice(0, first), answer: draft.turns.slice(first), adjustments }
}

function asTrained(turn: Turn): Turn {
  if (turn.role !== 'assistant') return turn
  const { train: _, ...trained } = turn
  return trained
}

function hasCalls(turn: Turn): boolean {
  return turn.role === 'assistant' && (turn.toolCalls?.length ?? 0) > 0
}
