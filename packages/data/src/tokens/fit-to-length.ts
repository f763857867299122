import { IGNORE_INDEX } from '../conversation.js'
import type { Conversation, TokenizedExample, Turn } from '../conversation.js'
import type { ChatTokenizer, MaskOptions } from './chat-tokenizer.js'

/**
 * What happens to a conversation longer than the sequence length.
 * - `left`: the oldest exchanges go, whole; an exchange too long on its own is cut on the right.
 * - `right`: the tokens after the limit go.
 * - `split`: several examples, cut between exchanges, each with the system prompt.
 * - `drop`: the conversation goes.
 */
export type Truncation = 'left' | 'right' | 'split' | 'drop'

export interface FitOptions extends MaskOptions {
  /** Tokens. Default 256. */
  maxLength?: number
  /** Default `left`. */
  truncation?: Truncation
}

export interface Fitted {
  /** Rows of at most maxLength tokens, each with something to train on. Empty where nothing was left. */
  examples: TokenizedExample[]
  /** What was done; `cut` says that tokens of an exchange were cut off. */
  changed: 'no' | 'shortened' | 'cut' | 'split' | 'dropped'
}

/** Tokenizes a conversation into rows that fit the sequence length. */
export function fitToLength(tokenizer: ChatTokenizer, conversation: Conversation, options: FitOptions = {}): Fitted {
  const { maxLength = 256, truncation = 'left' } = options
  const whole = tokenizer.encodeConversation(conversation, options)
  if (whole.inputIds.length <= maxLength) return kept([whole], 'no')
  if (truncation === 'drop') return { examples: [], changed: 'dropped' }
  if (truncation === 'right') return kept([cut(whole, maxLength)], 'cut')
  if (conversation.plain === true) {
    return truncation === 'split' ? kept(windows(whole, maxLength), 'split') : kept([cut(whole, maxLength)], 'cut')
  }
  const { system, exchanges } = exchangesOf(conversation.turns)
  const encode = (from: number, to: number): TokenizedExample =>
    tokenizer.encodeConversation({ ...conversation, turns: [...system, ...exchanges.slice(from, to).flat()] }, options)
  return truncation === 'left'
    ? fromTheLeft(encode, exchanges.length, maxLength)
    : inPieces(encode, exchanges.length, maxLength)
}

type EncodeExchanges = (from: number, to: number) => TokenizedExample

function fromTheLeft(encode: EncodeExchanges, count: number, maxLength: number): Fitted {
  const from = firstTrue(1, count - 1, (start) => encode(start, count).inputIds.length <= maxLength)
  const example = encode(Math.min(from, count - 1), count)
  return example.inputIds.length <= maxLength ? kept([example], 'shortened') : kept([cut(example, maxLength)], 'cut')
}

function inPieces(encode: EncodeExchanges, count: number, maxLength: number): Fitted {
  const pieces: TokenizedExample[] = []
  for (let from = 0; from < count;) {
    // The first end that is too far; a single exchange is taken even so, and cut.
    const tooFar = firstTrue(from + 2, count, (to) => encode(from, to).inputIds.length > maxLength)
    pieces.push(cut(encode(from, tooFar - 1), maxLength))
    from = tooFar - 1
  }
  return kept(pieces, 'split')
}

/** The smallest number in [low, high] for which the test holds, high + 1 where it never does; the test is monotone. */
export function firstTrue(low: number, high: number, test: (n: number) => boolean): number {
  let from = low
  let to = high + 1
  while (from < to) {
    const middle = (from + to) >> 1
    if (test(middle)) to = middle
    else from = middle + 1
  }
  return from
}

/** A turn of the user and everything up to the next one. */
export function exchangesOf(turns: readonly Turn[]): { system: Turn[]; exchanges: Turn[][] } {
  const system: Turn[] = []
  const exchanges: Turn[][] = []
  for (const turn of turns) {
    if (turn.role === 'system') system.push(turn)
    else if (turn.role === 'user' || exchanges.length === 0) exchanges.push([turn])
    else exchanges[exchanges.length - 1].push(turn)
  }
  return { system, exchanges }
}

export function cut(example: TokenizedExample, maxLength: number): TokenizedExample {
  return { inputIds: example.inputIds.slice(0, maxLength), labels: example.labels.slice(0, maxLength) }
}

function windows(example: TokenizedExample, maxLength: number): TokenizedExample[] {
  const count = Math.ceil(example.inputIds.length / maxLength)
  return Array.from({ length: count }, (_, i) => ({
    inputIds: example.inputIds.slice(i * maxLength, (i + 1) * maxLength),
    labels: example.labels.slice(i * maxLength, (i + 1) * maxLength),
  }))
}

function kept(examples: TokenizedExample[], changed: Fitted['changed']): Fitted {
  return {
    examples: examples.filter(hasTrained),
    changed,
  }
}

/** The first token is predicted by nothing, so a label there trains nothing. */
export function hasTrained({ labels }: TokenizedExample): boolean {
  return labels.some((label, i) => i > 0 && label !== IGNORE_INDEX)
}
