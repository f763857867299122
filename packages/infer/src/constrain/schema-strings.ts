import { ascii, choice, optional, repeat, sequence, text } from './grammar.js'
import type { Grammar } from './grammar.js'
import { jsonString } from './json-grammar.js'
import { UnsupportedPattern, patternGrammar } from './regex.js'
import { limits } from './schema-keywords.js'
import type { SchemaObject } from './schema-keywords.js'

const digit = ascii('09')
const hex = ascii('09', 'af')
const letters = ascii('09', 'az')

const month = choice(sequence(text('0'), ascii('19')), sequence(text('1'), ascii('02')))
/** Up to the 28th, so that the date exists in every month of every year. */
const day = choice(sequence(text('0'), ascii('19')), sequence(text('1'), digit), sequence(text('2'), ascii('08')))
const date = sequence(choice(text('19'), text('20')), digit, digit, text('-'), month, text('-'), day)
const hour = choice(sequence(ascii('01'), digit), sequence(text('2'), ascii('03')))
const sixty = sequence(ascii('05'), digit)
const time = sequence(hour, text(':'), sixty, text(':'), sixty)
const label = sequence(letters, repeat(letters, 0, 30))

/** Narrower than the standards of these formats: everything that is written is valid, not everything valid is written. */
const formats: Readonly<Record<string, Grammar>> = {
  date,
  time: sequence(time, text('Z')),
  'date-time': sequence(date, text('T'), time, text('Z')),
  uuid: sequence(
    ...[8, 4].flatMap((n) => [repeat(hex, n, n), text('-')]),
    text('4'),
    repeat(hex, 3, 3),
    text('-'),
    choice(ascii('89'), ascii('ab')),
    repeat(hex, 3, 3),
    text('-'),
    repeat(hex, 12, 12),
  ),
  email: sequence(
    label,
    repeat(sequence(text('.'), label), 0, 3),
    text('@'),
    label,
    optional(sequence(text('.'), label)),
    text('.'),
    repeat(ascii('az'), 2, 6),
  ),
}

/** The strings of a schema; a message where it asks for something that cannot be enforced. */
export function stringGrammar(schema: SchemaObject, share: (body: Grammar) => Grammar): Grammar | string {
  const { minLength, maxLength, pattern, format } = schema
  if ((minLength ?? maxLength) !== undefined && (pattern ?? format) !== undefined) {
    return 'a length cannot be combined with pattern or format; put it into the pattern'
  }
  // Beside a pattern the format is the annotation that JSON Schema says it is: generators of schemas write both.
  if (pattern !== undefined) return fromPattern(pattern, share)
  if (format !== undefined) return formatGrammar(format)
  const isLength = (value: unknown): value is number =>
    typeof value === 'number' && Number.isInteger(value) && value >= 0 && value <= limits.length
  const [min, max] = [minLength ?? 0, maxLength ?? Infinity]
  if (!isLength(min) || !(max === Infinity || isLength(max)) || min > Number(max)) {
    return `minLength and maxLength must be lengths up to ${limits.length}, in order`
  }
  return jsonString(min, Number(max))
}

function formatGrammar(format: unknown): Grammar | string {
  if (typeof format !== 'string' || !Object.hasOwn(formats, format)) {
    return `format must be ${Object.keys(formats).join(', ')}`
  }
  return sequence(text('"'), formats[format], text('"'))
}

function fromPattern(pattern: unknown, share: (body: Grammar) => Grammar): Grammar | string {
  if (typeof pattern !== 'string') return 'pattern must be a string'
  try {
    return sequence(text('"'), patternGrammar(pattern, share), text('"'))
  } catch (error) {
    if (error instanceof UnsupportedPattern) return `pattern cannot be followed: ${error.message}`
    throw error
  }
}
