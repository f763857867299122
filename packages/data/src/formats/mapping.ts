import { z } from 'zod'
import type { Draft, Turn } from '../conversation.js'
import { RecordError } from '../records/rules.js'
import { isObject, parsedIfJsonText, requireText } from './format.js'
import type { Detection, Format, JsonObject, PairFormat } from './format.js'
import { preference } from './preference.js'

const path = z.string().min(1)
const roleName = z.enum(['system', 'user', 'assistant', 'tool'])

/**
 * A format of the user's own, by the names of its fields; `a.b` is field b of field a. One question and answer per record,
 * a question and two answers, or a list of turns.
 */
export const mappingSchema = z.union([
  z.strictObject({ user: path, assistant: path, system: path.optional() }),
  /** A preference: texts, or lists of messages in the fields' own forms. */
  z.strictObject({ prompt: path, chosen: path, rejected: path, system: path.optional() }),
  z.strictObject({
    /** The field that holds the list of turns. */
    turns: path,
    /** The fields of a turn: who speaks, and what. */
    role: path,
    content: path,
    /** What the file calls the roles, such as `{therapist: 'assistant', client: 'user'}`. */
    roles: z.record(z.string(), roleName).default({}),
    system: path.optional(),
  }),
])

export type Mapping = z.input<typeof mappingSchema>
export type ResolvedMapping = z.output<typeof mappingSchema>

type PairMapping = Extract<ResolvedMapping, { chosen: string }>

export function formatOfMapping(mapping: ResolvedMapping): Format {
  if ('chosen' in mapping) return pairFormatOfMapping(mapping)
  return {
    name: 'mapping',
    detect: (record) => detectBy('user' in mapping ? [mapping.user, mapping.assistant] : [mapping.turns], record),
    reformat: (record) => [draftBy(mapping, record)],
  }
}

export function pairFormatOfMapping(mapping: PairMapping): PairFormat {
  return {
    name: 'mapping',
    detect: (record) => detectBy([mapping.chosen, mapping.rejected], record),
    reformat: (record) => preference.reformat(mappedPair(mapping, record)),
    pairs: (record) => preference.pairs(mappedPair(mapping, record)),
  }
}

function detectBy(paths: readonly string[], record: JsonObject): Detection | null {
  const isThere = paths.every((path) => fieldAt(record, path) !== undefined)
  return isThere ? { confidence: 1, reason: 'the fields of the mapping are there' } : null
}

function mappedPair({ prompt, chosen, rejected, system }: PairMapping, record: JsonObject): JsonObject {
  return {
    prompt: fieldAt(record, prompt),
    chosen: fieldAt(record, chosen),
    rejected: fieldAt(record, rejected),
    ...(system === undefined ? {} : { system: fieldAt(record, system) }),
  }
}

function draftBy(mapping: Exclude<ResolvedMapping, PairMapping>, record: JsonObject): Draft {
  const system = mapping.system === undefined ? undefined : fieldAt(record, mapping.system)
  const before: Turn[] = typeof system === 'string' && system.trim() !== '' ? [{ role: 'system', content: system }] : []
  if ('user' in mapping) {
    const question = requireText(fieldAt(record, mapping.user), mapping.user)
    const answer = requireText(fieldAt(record, mapping.assistant), mapping.assistant)
    return { turns: [...before, { role: 'user', content: question }, { role: 'assistant', content: answer }] }
  }
  const list = parsedIfJsonText(fieldAt(record, mapping.turns))
  if (!Array.isArray(list)) throw new RecordError('invalid-shape', mapping.turns)
  const turns = list.map((item: unknown, i): Turn => {
    const said = requireText(fieldAt(item, mapping.content), `${mapping.turns}.${i}.${mapping.content}`)
    const name = requireText(fieldAt(item, mapping.role), `${mapping.turns}.${i}.${mapping.role}`)
    const role = roleName.safeParse(Object.hasOwn(mapping.roles, name) ? mapping.roles[name] : name.toLowerCase())
    if (!role.success) throw new RecordError('unknown-role', `${mapping.turns}.${i}.${mapping.role}`)
    return { role: role.data, content: said }
  })
  return { turns: [...before, ...turns] }
}

function fieldAt(value: unknown, path: string): unknown {
  let at = value
  for (const name of path.split('.')) at = isObject(at) && Object.hasOwn(at, name) ? at[name] : undefined
  return at
}
