import type { PreferenceConversation, TokenizedExample, TokenizedPair, Turn } from '../conversation.js'
import { asPrompt } from '../formats/prompt-completion.js'
import type { ChatTokenizer } from './chat-tokenizer.js'
import { cut, exchangesOf, firstTrue, hasTrained } from './fit-to-length.js'
import type { FitOptions, Fitted, Truncation } from './fit-to-length.js'

export interface PairFitOptions extends Omit<FitOptions, 'truncation'> {
  /** As for conversations, always the same for both answers; a pair cannot be split. Default `left`. */
  truncation?: Exclude<Truncation, 'split'>
}

export interface FittedPair {
  /** Two rows of at most maxLength tokens, or null where truncation left nothing to tell the answers apart by. */
  pair: TokenizedPair | null
  changed: Exclude<Fitted['changed'], 'split'>
}

/**
 * Tokenizes a preference into two rows that fit the sequence length. `left` takes the oldest exchanges out of the prompt,
 * until the longer answer fits; what is then still too long is cut on the right, as by `right`, which is what TRL's
 * DPOTrainer does (`keep_start`; a pair whose prompt alone fills the sequence is dropped).
 */
export function fitPair(
  tokenizer: ChatTokenizer,
  conversation: PreferenceConversation,
  options: PairFitOptions = {},
): FittedPair {
  const { maxLength = 256, truncation = 'left' } = options
  const encode = (prompt: readonly Turn[]): TokenizedPair =>
    encodePair(tokenizer, { ...conversation, prompt: [...prompt] }, options)
  const fits = ({ chosen, rejected }: TokenizedPair): boolean =>
    chosen.inputIds.length <= maxLength && rejected.inputIds.length <= maxLength
  const whole = encode(conversation.prompt)
  if (fits(whole)) return { pair: distinct(whole), changed: 'no' }
  if (truncation === 'drop') return { pair: null, changed: 'dropped' }
  let shortened = whole
  if (truncation === 'left') {
    const { system, exchanges } = exchangesOf(conversation.prompt)
    const last = exchanges.length - 1
    const from = (start: number): TokenizedPair => encode([...system, ...exchanges.slice(start).flat()])
    shortened = from(
      Math.min(
        last,
        firstTrue(1, last, (start) => fits(from(start))),
      ),
    )
    if (fits(shortened)) return { pair: distinct(shortened), changed: 'shortened' }
  }
  const pair = { chosen: cut(shortened.chosen, maxLength), rejected: cut(shortened.rejected, maxLength) }
  return { pair: distinct(pair), changed: 'cut' }
}

/** Both rows of a preference, whole. */
export function encodePair(
  tokenizer: ChatTokenizer,
  { prompt, chosen, rejected, tools, source }: PreferenceConversation,
  options: PairFitOptions = {},
): TokenizedPair {
  const encode = (answer: readonly Turn[]): TokenizedExample =>
    tokenizer.encodeConversation(
      { turns: [...asPrompt(prompt), ...answer], source, ...(tools === undefined ? {} : { tools }) },
      options,
    )
  return { chosen: encode(chosen), rejected: encode(rejected) }
}

/** Rows that have become equal have the same probability, whatever is learned. */
function distinct(pair: TokenizedPair): TokenizedPair | null {
  const { chosen, rejected } = pair
  const isEqual =
    chosen.inputIds.length === rejected.inputIds.length && chosen.inputIds.every((id, i) => id === rejected.inputIds[i])
  return isEqual || !hasTrained(chosen) || !hasTrained(rejected) ? null : pair
}
