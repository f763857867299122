/**
 * word: letters and digits, with the symbols that stand for letters inside them. stop: the end of a sentence. pause: a comma
 * or its like. quote: a quotation mark.
 */
export type RawKind = 'word' | 'stop' | 'pause' | 'quote'

export interface RawToken {
  readonly kind: RawKind
  readonly text: string
  /** Half-open range in the folded text. */
  readonly start: number
  readonly end: number
  /** The mark that ended the sentence, for `stop`. */
  readonly question?: boolean
  /** For `quote`: a word follows and none comes right before, so that it cannot be an apostrophe at a word's end. */
  readonly opens?: boolean
}

/** Symbols that people put in place of a letter inside a word. */
export const letterSymbols = '@$!*|+#€'

const scanner =
  /((?:[$@](?=\p{L}))?[\p{L}\p{N}]+(?:['@$!*|+#€]+[\p{L}\p{N}]+)*)|([.!?]+|\n+)|([,;:()[\]/]| - )|(["'])/gu

/** Splits folded text into words and marks; everything else only separates. */
export function scan(text: string): RawToken[] {
  const tokens: RawToken[] = []
  for (const match of text.matchAll(scanner)) {
    const start = match.index
    const base = { text: match[0], start, end: start + match[0].length }
    if (match[1] !== undefined) tokens.push({ kind: 'word', ...base })
    else if (match[2] !== undefined) tokens.push({ kind: 'stop', ...base, question: match[0].includes('?') })
    else if (match[3] !== undefined) tokens.push({ kind: 'pause', ...base })
    else tokens.push({ kind: 'quote', ...base, opens: opensQuotation(text, start) })
  }
  return joinOneWordSentences(tokens)
}

function opensQuotation(text: string, at: number): boolean {
  return /[\p{L}\p{N}]/u.test(text[at + 1] ?? '') && !/[\p{L}\p{N}]/u.test(text[at - 1] ?? '')
}

/** "Kill. My. Self." is one sentence: a stop between one-word sentences does not end anything. */
function joinOneWordSentences(tokens: readonly RawToken[]): RawToken[] {
  const lengths = sentenceLengths(tokens)
  let sentence = 0
  return tokens.filter((token) => {
    if (token.kind !== 'stop') return true
    const bothShort = lengths[sentence] === 1 && lengths[sentence + 1] === 1
    sentence += 1
    return !(bothShort && token.text === '.')
  })
}

function sentenceLengths(tokens: readonly RawToken[]): number[] {
  const lengths = [0]
  for (const token of tokens) {
    if (token.kind === 'stop') lengths.push(0)
    else if (token.kind === 'word') lengths[lengths.length - 1] = (lengths[lengths.length - 1] ?? 0) + 1
  }
  return lengths
}
