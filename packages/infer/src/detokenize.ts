import type { TokenBytes } from './token-bytes.js'

/**
 * Turns token ids into text as they come. A character whose bytes are spread over several tokens is released with its
 * last byte, so the pieces put together are the text and none of them ends in half a character.
 */
export class Detokenizer {
  readonly #tokens: TokenBytes
  readonly #decoder = new TextDecoder('utf-8', { ignoreBOM: true })
  #atStart: boolean

  /** `continuation` keeps a space at the start, for an answer that continues a text instead of beginning one. */
  constructor(tokens: TokenBytes, options: { readonly continuation?: boolean } = {}) {
    this.#tokens = tokens
    this.#atStart = tokens.stripsLeadingSpace && options.continuation !== true
  }

  /** The whole characters that this token completes, often none. */
  push(tokenId: number): string {
    const bytes = this.#tokens.bytes[tokenId]
    return bytes === undefined ? '' : this.#strip(this.#decoder.decode(bytes, { stream: true }))
  }

  /** At the end: U+FFFD if the last character was never completed, otherwise nothing. */
  flush(): string {
    return this.#strip(this.#decoder.decode())
  }

  #strip(text: string): string {
    if (!this.#atStart || text === '') return text
    this.#atStart = false
    return text.startsWith(' ') ? text.slice(1) : text
  }
}

/** One token on its own, for showing: bytes that are no whole characters read as U+FFFD. */
export function tokenText(tokens: TokenBytes, tokenId: number): string {
  const bytes = tokens.bytes[tokenId]
  return bytes === undefined ? '' : new TextDecoder('utf-8', { ignoreBOM: true }).decode(bytes)
}
