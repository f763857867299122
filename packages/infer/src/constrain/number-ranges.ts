import { ascii, choice, never, optional, repeat, sequence, text } from './grammar.js'
import type { Grammar } from './grammar.js'
import { maxDigits } from './json-grammar.js'

/** The numbers from `low` to `high`; an excluded end does not belong to them. Ends are integers or infinite. */
export interface NumberRange {
  readonly low: number
  readonly high: number
  readonly lowExcluded?: boolean
  readonly highExcluded?: boolean
}

/** The greatest integer that a constrained answer contains. */
export const maxInteger = 10 ** maxDigits - 1

const digit = ascii('09')
const digits = (n: number): Grammar => repeat(digit, n, n)
const oneOf = (from: string, to: string): Grammar => ascii(from + to)

/** The decimal integers in the range, without leading zeros and without -0; `never` when there is none. */
export function integersIn(range: NumberRange): Grammar {
  const low = Math.max(range.low + (range.lowExcluded === true ? 1 : 0), -maxInteger)
  const high = Math.min(range.high - (range.highExcluded === true ? 1 : 0), maxInteger)
  const negative = naturals(Math.max(1, -high), -low)
  const natural = naturals(Math.max(0, low), high)
  return eitherSign(natural, negative)
}

function eitherSign(natural: Grammar, negative: Grammar): Grammar {
  if (negative === never) return natural
  const negated = sequence(text('-'), negative)
  return natural === never ? negated : choice(natural, negated)
}

/** low..high, both at least 0. */
function naturals(low: number, high: number): Grammar {
  if (low > high) return never
  const options: Grammar[] = []
  for (let length = String(low).length; length <= String(high).length; length++) {
    const first = Math.max(low, length === 1 ? 0 : 10 ** (length - 1))
    const last = Math.min(high, 10 ** length - 1)
    options.push(sameLength(String(first), String(last)))
  }
  return choice(...options)
}

/** The digit strings from `low` to `high`, which have the same length. */
function sameLength(low: string, high: string): Grammar {
  const rest = low.length - 1
  if (rest < 0) return sequence()
  if (/^0*$/.test(low) && /^9*$/.test(high)) return digits(low.length)
  const [a, b] = [low[0], high[0]]
  if (a === b) return sequence(text(a), sameLength(low.slice(1), high.slice(1)))
  const options = [sequence(text(a), sameLength(low.slice(1), '9'.repeat(rest)))]
  const [next, before] = [String(Number(a) + 1), String(Number(b) - 1)]
  if (next <= before) options.push(sequence(oneOf(next, before), digits(rest)))
  options.push(sequence(text(b), sameLength('0'.repeat(rest), high.slice(1))))
  return choice(...options)
}

/**
 * The decimal numbers in the range. Next to an excluded end, integer part and fraction together have at most 15 digits,
 * so that reading the text as a double cannot round it onto that end.
 */
export function numbersIn(range: NumberRange): Grammar {
  const low = Math.max(range.low, -maxInteger)
  const high = Math.min(range.high, maxInteger)
  const { lowExcluded = false, highExcluded = false } = range
  const natural = magnitudes(low < 0 ? 0 : low, high, low >= 0 && lowExcluded, highExcluded)
  const negative = magnitudes(high > 0 ? 0 : -high, -low, high > 0 || highExcluded || high === 0, lowExcluded)
  return eitherSign(natural, negative)
}

/** The numbers from low to high, both at least 0, without a sign. */
function magnitudes(low: number, high: number, lowExcluded: boolean, highExcluded: boolean): Grammar {
  if (low > high || (low === high && (lowExcluded || highExcluded))) return never
  const options: Grammar[] = []
  const zeros = optional(sequence(text('.'), text('0')))
  if (!lowExcluded) options.push(sequence(text(String(low)), zeros))
  if (!highExcluded && low < high) options.push(sequence(text(String(high)), zeros))
  if (low + 1 <= high - 1) options.push(sequence(naturals(low + 1, high - 1), zeros))
  // Every number that is no integer lies between n and n + 1 for an n from low to high - 1.
  if (low < high) {
    const digitsAfter = (n: number): number =>
      Math.min(
        n === low && lowExcluded ? maxDigits - String(low).length : maxDigits,
        n === high - 1 && highExcluded ? maxDigits - String(high).length : maxDigits,
      )
    for (const n of new Set([low, high - 1])) options.push(betweenIntegers(text(String(n)), digitsAfter(n)))
    if (low + 1 <= high - 2) options.push(betweenIntegers(naturals(low + 1, high - 2), maxDigits))
  }
  return choice(...options)
}

/** An integer part and a fraction that is not zero, of at most `length` digits. */
function betweenIntegers(integer: Grammar, length: number): Grammar {
  if (length < 1) return never
  const notZero = Array.from({ length: Math.min(length, 6) }, (_, zeros) =>
    sequence(digitsZero(zeros), ascii('19'), repeat(digit, 0, length - zeros - 1)),
  )
  return sequence(integer, text('.'), choice(...notZero))
}

const digitsZero = (n: number): Grammar => text('0'.repeat(n))
