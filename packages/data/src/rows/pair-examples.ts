import type { TokenizedPair } from '../conversation.js'
import type { Examples } from './example-rows.js'

/** Tokenized preference pairs with random access. */
export interface PairExamples extends Iterable<TokenizedPair> {
  /** Pairs. */
  readonly length: number
  /** Tokens in both rows of all pairs. */
  readonly tokens: number
  /** Tokens that are trained on, in both rows of all pairs. */
  readonly trainedTokens: number
  /** @throws RangeError for an index outside [0, length). */
  get(index: number): TokenizedPair
  /** The number of tokens of the longer row of a pair. */
  lengthOf(index: number): number
}

/** Rows of which two in a row are a pair: the chosen one, then the rejected one. */
export function pairsOf(rows: Examples): PairExamples {
  const get = (index: number): TokenizedPair => ({ chosen: rows.get(2 * index), rejected: rows.get(2 * index + 1) })
  return {
    get length() {
      return rows.length / 2
    },
    get tokens() {
      return rows.tokens
    },
    get trainedTokens() {
      return rows.trainedTokens
    },
    get,
    lengthOf: (index) => Math.max(rows.lengthOf(2 * index), rows.lengthOf(2 * index + 1)),
    *[Symbol.iterator]() {
      for (let i = 0; i < rows.length / 2; i++) yield get(i)
    },
  }
}
