import { jsonCharacter } from './code-points.js'
import { ascii, choice, optional, repeat, rule, sequence, text } from './grammar.js'
import type { Grammar } from './grammar.js'

const digit = ascii('09')
const hex = ascii('09', 'af', 'AF')

/** The names of the rules that every JSON grammar shares; a name from a schema begins with `#` and cannot collide. */
export const jsonRules = {
  value: 'value',
  character: 'character',
  space: 'space',
} as const

/** One space, or a new line with an indentation. Bounded, because a model may otherwise write white space for ever. */
const space = optional(choice(text(' '), sequence(text('\n'), repeat(ascii('  '), 0, 40))))

/** A character of a JSON string, escaped ones included, but no escaped half of a surrogate pair. */
const character = choice(
  jsonCharacter([
    [0x20, 0x21],
    [0x23, 0x5b],
    [0x5d, 0xd7ff],
    [0xe000, 0x10ffff],
  ]),
  sequence(text('\\'), choice(...['"', '\\', '/', 'b', 'f', 'n', 'r', 't'].map(text))),
  sequence(text('\\u'), ascii('09', 'ac', 'AC', 'ef', 'EF'), hex, hex, hex),
  sequence(text('\\u'), ascii('dd', 'DD'), ascii('07'), hex, hex),
)

/** A string of min to max characters. */
export const jsonString = (min = 0, max = Infinity): Grammar =>
  sequence(text('"'), repeat(rule(jsonRules.character), min, max), text('"'))

/** At most 15 digits: every such integer and every such fraction is exact as a double. */
export const maxDigits = 15
export const natural = choice(text('0'), sequence(ascii('19'), repeat(digit, 0, maxDigits - 1)))
export const jsonInteger = sequence(optional(text('-')), natural)
export const fraction = (digits: number = maxDigits): Grammar => sequence(text('.'), repeat(digit, 1, digits))
const exponent = sequence(ascii('ee', 'EE'), optional(ascii('++', '--')), repeat(digit, 1, 2))
export const jsonNumber = sequence(optional(text('-')), natural, optional(fraction()), optional(exponent))

const ws = rule(jsonRules.space)

/** `[item, item, ...]` with min to max items. */
export function jsonArray(item: Grammar, min: number, max: number): Grammar {
  const none = sequence(text('['), ws, text(']'))
  const more = sequence(text(','), ws, item)
  const some = sequence(text('['), ws, item, repeat(more, Math.max(0, min - 1), max - 1), ws, text(']'))
  if (max === 0) return none
  return min === 0 ? choice(none, some) : some
}

/** `[first, second, ...]`, each item given. */
export function jsonTuple(items: readonly Grammar[]): Grammar {
  if (items.length === 0) return jsonArray(rule(jsonRules.value), 0, 0)
  const separated = items.flatMap((item, i) => (i === 0 ? [item] : [text(','), ws, item]))
  return sequence(text('['), ws, ...separated, ws, text(']'))
}

/** `"key": value`. */
export const jsonMember = (key: Grammar, value: Grammar): Grammar => sequence(key, text(':'), ws, value)

/** `{"any key": value, ...}`. */
export function jsonMap(value: Grammar): Grammar {
  const member = jsonMember(jsonString(), value)
  const members = sequence(member, repeat(sequence(text(','), ws, member), 0, Infinity))
  return sequence(text('{'), ws, optional(sequence(members, ws)), text('}'))
}

export interface Member {
  readonly name: string
  readonly value: Grammar
  readonly required: boolean
}

/**
 * An object whose members come in the given order, optional ones present or not. `define` adds a rule and returns a
 * reference to it: three rules for each member keep the grammar linear in their number.
 */
export function jsonObject(members: readonly Member[], define: (body: Grammar) => Grammar): Grammar {
  const end = sequence(ws, text('}'))
  let first: Grammar = text('}')
  let rest: Grammar = end
  for (const { name, value, required } of members.toReversed()) {
    const member = jsonMember(text(JSON.stringify(name)), value)
    const here = define(sequence(member, rest))
    const afterComma = sequence(text(','), ws, here)
    const [firstBefore, restBefore]: [Grammar, Grammar] = [first, rest]
    first = define(required ? here : choice(here, firstBefore))
    rest = define(required ? afterComma : choice(afterComma, restBefore))
  }
  return sequence(text('{'), ws, first)
}

/** The rules of JSON itself. */
export function baseRules(): Map<string, Grammar> {
  const value = choice(
    jsonMap(rule(jsonRules.value)),
    jsonArray(rule(jsonRules.value), 0, Infinity),
    jsonString(),
    jsonNumber,
    ...['true', 'false', 'null'].map(text),
  )
  return new Map([
    [jsonRules.value, value],
    [jsonRules.character, character],
    [jsonRules.space, space],
  ])
}
