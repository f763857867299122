import { control, text } from './segments.js'
import type { Segment } from './segments.js'

/** Unicode noncharacters, which no text has a use for. */
const OPEN = '\uFDD2'
const CLOSE = '\uFDD3'

/**
 * Tells the special tokens that a template writes from the same characters in a conversation: the latter are replaced by
 * a mark while the template runs, and come back as plain text.
 */
export class SpecialTokens {
  private readonly tokens: readonly string[]
  private readonly pattern: RegExp | null

  constructor(tokens: Iterable<string>) {
    // The longest first, so that a token is never taken for another one that it begins with.
    this.tokens = [...new Set(tokens)].filter((token) => token !== '').sort((a, b) => b.length - a.length)
    const alternatives = this.tokens.map((token) => token.replace(/[.*+?^${}()|[\]\\]/g, '\\$&'))
    this.pattern = alternatives.length === 0 ? null : new RegExp(`(${alternatives.join('|')})`, 'g')
  }

  protect(content: string): string {
    if (this.pattern === null) return content
    return content.replaceAll(this.pattern, (token) => `${OPEN}${this.tokens.indexOf(token)}${CLOSE}`)
  }

  restore(written: string): string {
    return written.replaceAll(/\uFDD2(\d+)\uFDD3/g, (_, index: string) => this.tokens[Number(index)])
  }

  /** A rendered text as segments, each special token of the template on its own. */
  split(written: string, producedBy: number, toolCall: boolean): Segment[] {
    const parts = this.pattern === null ? [written] : written.split(this.pattern)
    return parts.flatMap((part, i) => {
      if (part === '') return []
      const isToken = i % 2 === 1
      return isToken ? control(part, producedBy, toolCall) : text(this.restore(part), producedBy, toolCall)
    })
  }

  /** The special token that stands at the start of a text, if any. */
  at(written: string, position: number): string | undefined {
    return this.tokens.find((token) => written.startsWith(token, position))
  }

  endsWithToken(written: string): boolean {
    return this.tokens.some((token) => written.endsWith(token))
  }
}
