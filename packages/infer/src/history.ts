import type { Turn } from '@mirastral/data'
import { InferError } from './errors.js'

export interface FitOptions {
  /** The greatest number of tokens of the prompt. */
  readonly maxTokens: number
  /** The number of tokens of a prompt with these turns. */
  readonly countTokens: (turns: readonly Turn[]) => number
}

export interface FittedHistory {
  /** The system turns and the newest exchanges, in order. */
  readonly turns: readonly Turn[]
  /** The turns that had to go, oldest first. */
  readonly dropped: readonly Turn[]
}

/**
 * Drops the oldest exchanges until the conversation fits. An exchange is a turn of the user with everything up to the next
 * one, so tool calls never lose their results. System turns and the newest exchange are never dropped: when they alone do
 * not fit, this throws `InferError` with code MIRASTRAL_INFER_CONTEXT_LENGTH.
 */
export function fitHistory(turns: readonly Turn[], { maxTokens, countTokens }: FitOptions): FittedHistory {
  const system = turns.filter((turn) => turn.role === 'system')
  const exchanges = splitExchanges(turns.filter((turn) => turn.role !== 'system'))
  const keeping = (dropped: number): Turn[] => [...system, ...exchanges.slice(dropped).flat()]
  const fits = (dropped: number): boolean => countTokens(keeping(dropped)) <= maxTokens

  if (fits(0)) return { turns: keeping(0), dropped: [] }
  const most = Math.max(0, exchanges.length - 1)
  if (!fits(most)) {
    throw new InferError(
      'MIRASTRAL_INFER_CONTEXT_LENGTH',
      `chat: the system prompt and the newest message must fit into ${maxTokens} tokens, ` +
        `got ${countTokens(keeping(most))}; write a shorter message`,
    )
  }
  // The fewest dropped exchanges that fit: more dropped are never longer, so halving finds it.
  let [tooFew, enough] = [0, most]
  while (enough - tooFew > 1) {
    const middle = (tooFew + enough) >> 1
    if (fits(middle)) enough = middle
    else tooFew = middle
  }
  return { turns: keeping(enough), dropped: exchanges.slice(0, enough).flat() }
}

function splitExchanges(turns: readonly Turn[]): Turn[][] {
  const exchanges: Turn[][] = []
  for (const turn of turns) {
    const current = exchanges.at(-1)
    if (current === undefined || turn.role === 'user') exchanges.push([turn])
    else current.push(turn)
  }
  return exchanges
}
