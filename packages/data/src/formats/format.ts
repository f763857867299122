import type { z } from 'zod'
import type { Draft, PreferenceDraft } from '../conversation.js'
import { RecordError } from '../records/rules.js'

export type JsonObject = Record<string, unknown>

/** How sure a detector is (0 to 1), and why, in words about field names. */
export interface Detection {
  confidence: number
  reason: string
}

/** One file format of conversations: how to tell it, and how to turn one of its records into conversations. */
export interface Format {
  readonly name: string
  /** Looks at field names and types, never at what the texts say. Null: certainly not this format. */
  detect(record: JsonObject): Detection | null
  /** @throws RecordError where the record is of this format but broken. */
  reformat(record: JsonObject): Draft[]
}

/** A format that says which of two answers is the better one. As a conversation it gives the better one. */
export interface PairFormat extends Format {
  /** @throws RecordError where the record is of this format but broken. */
  pairs(record: JsonObject): PreferenceDraft[]
}

export function isObject(value: unknown): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/** Where in a record zod found something wrong, if only names that the schema itself knows lead there. */
const KNOWN_FIELDS = new Set(
  [
    'role content tool_calls tool_call_id function_call function name arguments id type text from value tools functions',
    'messages conversations parameters description prompt completion chosen rejected system instruction input output',
  ].flatMap((names) => names.split(' ')),
)

/** @throws RecordError invalid-shape, with the first place that is wrong. */
export function checkShape<T>(schema: z.ZodType<T>, value: unknown, field: string): T {
  const result = schema.safeParse(value)
  if (result.success) return result.data
  const path = result.error.issues[0]?.path ?? []
  const known = path.filter((key) => typeof key === 'number' || KNOWN_FIELDS.has(String(key)))
  throw new RecordError('invalid-shape', [field, ...known].join('.'))
}

/** A cell of a CSV or Parquet file holds a list as JSON text. */
export function parsedIfJsonText(value: unknown): unknown {
  if (typeof value !== 'string' || !/^\s*[[{]/.test(value)) return value
  try {
    return JSON.parse(value) as unknown
  } catch {
    return value
  }
}

/** A question, an answer, and what stands before them. */
export function exchange(question: string, answer: string, system = ''): Draft {
  return {
    turns: [
      ...(system.trim() === '' ? [] : [{ role: 'system' as const, content: system }]),
      { role: 'user', content: question },
      { role: 'assistant', content: answer },
    ],
  }
}

/** The field of a record, whatever the case of its name. */
export function fieldNamed(record: JsonObject, ...names: string[]): unknown {
  for (const name of names) {
    if (Object.hasOwn(record, name)) return record[name]
    const key = Object.keys(record).find((candidate) => candidate.toLowerCase() === name.toLowerCase())
    if (key !== undefined) return record[key]
  }
  return undefined
}

/** @throws RecordError invalid-shape where the value is not text. */
export function requireText(value: unknown, field: string): string {
  if (typeof value !== 'string') throw new RecordError('invalid-shape', field)
  return value
}
