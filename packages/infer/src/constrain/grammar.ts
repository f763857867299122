/** A language of byte strings: a context-free grammar in regular-expression style, where a rule may refer to itself. */
export type Grammar =
  | { readonly kind: 'bytes'; readonly bytes: Uint8Array }
  /** One byte inside any of the inclusive ranges. */
  | { readonly kind: 'byte'; readonly ranges: readonly ByteRange[] }
  | { readonly kind: 'sequence'; readonly parts: readonly Grammar[] }
  | { readonly kind: 'choice'; readonly options: readonly Grammar[] }
  /** `max` may be Infinity. */
  | { readonly kind: 'repeat'; readonly part: Grammar; readonly min: number; readonly max: number }
  | { readonly kind: 'rule'; readonly name: string }

export type ByteRange = readonly [from: number, to: number]

export interface GrammarRules {
  readonly start: Grammar
  readonly rules: ReadonlyMap<string, Grammar>
}

const utf8 = new TextEncoder()

export const text = (value: string): Grammar => ({ kind: 'bytes', bytes: utf8.encode(value) })
export const byteIn = (...ranges: ByteRange[]): Grammar => ({ kind: 'byte', ranges })
export const sequence = (...parts: Grammar[]): Grammar => ({ kind: 'sequence', parts })
export const choice = (...options: Grammar[]): Grammar => ({ kind: 'choice', options })
export const repeat = (part: Grammar, min: number, max: number): Grammar => ({ kind: 'repeat', part, min, max })
export const optional = (part: Grammar): Grammar => repeat(part, 0, 1)
export const rule = (name: string): Grammar => ({ kind: 'rule', name })
export const empty: Grammar = { kind: 'sequence', parts: [] }
/** The language without any string. */
export const never: Grammar = { kind: 'choice', options: [] }

/** A byte between two characters of ASCII, inclusive, for each pair of characters in `pairs`: `ascii('09', 'af')`. */
export const ascii = (...pairs: string[]): Grammar =>
  byteIn(...pairs.map((pair): ByteRange => [pair.charCodeAt(0), pair.charCodeAt(pair.length - 1)]))
