import { byteIn, choice, sequence, text } from './grammar.js'
import type { Grammar } from './grammar.js'

/** A set of Unicode code points as sorted, disjoint, inclusive ranges. */
export type CodePoints = readonly (readonly [from: number, to: number])[]

const maxCodePoint = 0x10ffff
/** Surrogates are not characters: UTF-8 cannot hold them. */
const surrogates: CodePoints = [[0xd800, 0xdfff]]

/** Sorts and joins ranges. */
export function unionOf(...sets: CodePoints[]): CodePoints {
  const sorted = sets.flat().toSorted((a, b) => a[0] - b[0])
  const out: [number, number][] = []
  for (const [from, to] of sorted) {
    const last = out.at(-1)
    if (last !== undefined && from <= last[1] + 1) last[1] = Math.max(last[1], to)
    else out.push([from, to])
  }
  return out
}

/** All characters outside the set. */
export function complementOf(set: CodePoints): CodePoints {
  const out: [number, number][] = []
  let next = 0
  for (const [from, to] of unionOf(set, surrogates)) {
    if (from > next) out.push([next, from - 1])
    next = to + 1
  }
  if (next <= maxCodePoint) out.push([next, maxCodePoint])
  return out
}

const without = (set: CodePoints, removed: CodePoints): CodePoints => complementOf(unionOf(complementOf(set), removed))

/** The characters that a JSON string cannot hold as they are. */
const mustBeEscaped: CodePoints = [
  [0x00, 0x1f],
  [0x22, 0x22],
  [0x5c, 0x5c],
]

/** One character of the set as it is written inside a JSON string: `"` as `\"`, a line feed as `\n`. */
export function jsonCharacter(set: CodePoints): Grammar {
  const escapes: Grammar[] = []
  for (const [from, to] of mustBeEscaped) {
    for (let code = from; code <= to; code++) {
      if (!set.some(([a, b]) => a <= code && code <= b)) continue
      escapes.push(text(JSON.stringify(String.fromCharCode(code)).slice(1, -1)))
    }
  }
  return choice(utf8Character(without(set, mustBeEscaped)), ...escapes)
}

/** One character of the set in UTF-8. */
export function utf8Character(set: CodePoints): Grammar {
  return choice(...without(set, surrogates).flatMap(([from, to]) => utf8Ranges(from, to)))
}

const utf8 = new TextEncoder()
const lastOfLength = [0x7f, 0x7ff, 0xffff, maxCodePoint]

/** Sequences of byte ranges that together are the code points from..to (the method of RE2's `utf8` ranges). */
function utf8Ranges(from: number, to: number): Grammar[] {
  const limit = lastOfLength.find((last) => from <= last) ?? maxCodePoint
  if (to > limit) return [...utf8Ranges(from, limit), ...utf8Ranges(limit + 1, to)]
  // Split where all following bytes run over their whole range, so that the bytes are independent of each other.
  for (let bits = 6; bits <= 18; bits += 6) {
    const mask = (1 << bits) - 1
    if ((from & ~mask) === (to & ~mask)) break
    if ((from & mask) !== 0) return [...utf8Ranges(from, from | mask), ...utf8Ranges((from | mask) + 1, to)]
    if ((to & mask) !== mask) return [...utf8Ranges(from, (to & ~mask) - 1), ...utf8Ranges(to & ~mask, to)]
  }
  const low = utf8.encode(String.fromCodePoint(from))
  const high = utf8.encode(String.fromCodePoint(to))
  return [sequence(...Array.from(low, (byte, i) => byteIn([byte, high[i]])))]
}
