export type SchemaObject = Readonly<Record<string, unknown>>

const jsonTypes = ['object', 'array', 'string', 'number', 'integer', 'boolean', 'null'] as const
export type JsonType = (typeof jsonTypes)[number]

/** What a schema may ask for before it costs more than an answer is worth. */
export const limits = { depth: 64, values: 1000, items: 1000, length: 5000 } as const

const applicators = ['$ref', 'anyOf', 'oneOf', 'allOf', 'const', 'enum'] as const
export type Applicator = (typeof applicators)[number]

/** Keywords that say nothing about which values are valid. */
const annotations = new Set(
  '$schema $id $anchor $comment $defs definitions title description default examples deprecated readOnly writeOnly'.split(
    ' ',
  ),
)

const keywordsOfType: Readonly<Record<Exclude<JsonType, 'boolean' | 'null'>, readonly string[]>> = {
  object: ['properties', 'required', 'additionalProperties'],
  array: ['items', 'prefixItems', 'minItems', 'maxItems'],
  string: ['minLength', 'maxLength', 'pattern', 'format'],
  number: ['minimum', 'maximum', 'exclusiveMinimum', 'exclusiveMaximum', 'multipleOf'],
  integer: ['minimum', 'maximum', 'exclusiveMinimum', 'exclusiveMaximum', 'multipleOf'],
}
const typed = new Set(Object.values(keywordsOfType).flat())

/** Values that ask for nothing, which generators of schemas like to write out. */
const neutral: Readonly<Record<string, unknown>> = { uniqueItems: false, minProperties: 0, minContains: 0 }

export function isSchemaObject(value: unknown): value is SchemaObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/** Which keyword decides over a schema, and what in it cannot be enforced. */
export function keywordsOf(schema: SchemaObject): { applicator: Applicator | undefined; problems: string[] } {
  const used = Object.keys(schema).filter((k) => !annotations.has(k) && !isNeutral(schema, k))
  const present = applicators.filter((k) => used.includes(k))
  const unknown = used.filter((k) => k !== 'type' && !typed.has(k) && !present.some((p) => p === k))
  const problems = unknown.map((k) => `the keyword ${JSON.stringify(k)} is not supported`)
  if (schema.type !== undefined && declaredTypes(schema.type) === undefined) {
    problems.push(`type must be one or several of ${jsonTypes.join(', ')}`)
  }
  const applicator = present[0]
  if (applicator === undefined) return { applicator, problems }
  const beside = used.filter((k) => k !== applicator && k !== 'type')
  const typeBeside = used.includes('type') && applicator !== 'const' && applicator !== 'enum'
  const conflicting = typeBeside ? [...beside, 'type'] : beside
  if (conflicting.length > 0) problems.push(`${conflicting.join(', ')} beside ${applicator} is not supported`)
  return { applicator, problems }
}

function isNeutral(schema: SchemaObject, keyword: string): boolean {
  return Object.hasOwn(neutral, keyword) && schema[keyword] === neutral[keyword]
}

function declaredTypes(type: unknown): JsonType[] | undefined {
  const list: unknown[] = Array.isArray(type) ? type : [type]
  const types = list.filter((t): t is JsonType => jsonTypes.some((known) => known === t))
  return types.length === list.length && types.length > 0 ? types : undefined
}

/** The types that a value may have; where none is declared, those that the keywords speak about. Undefined is any. */
export function typesOf(schema: SchemaObject): JsonType[] | undefined {
  if (schema.type !== undefined) return declaredTypes(schema.type)
  const implied = (['object', 'array', 'string', 'number'] as const).filter((type) =>
    keywordsOfType[type].some((keyword) => schema[keyword] !== undefined),
  )
  return implied.length === 0 ? undefined : implied
}

/** The schema that a reference inside the document points to (RFC 6901); undefined where there is none. */
export function pointerTarget(root: unknown, reference: string): unknown {
  if (reference === '#') return root
  if (!reference.startsWith('#/')) return undefined
  let target = root
  for (const part of reference.slice(2).split('/')) {
    const key = percentDecoded(part).replaceAll('~1', '/').replaceAll('~0', '~')
    if (typeof target !== 'object' || target === null || !Object.hasOwn(target, key)) return undefined
    target = (target as Record<string, unknown>)[key]
  }
  return target
}

function percentDecoded(part: string): string {
  try {
    return decodeURIComponent(part)
  } catch {
    return part
  }
}
