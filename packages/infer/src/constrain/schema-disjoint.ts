import { isSchemaObject, pointerTarget, typesOf } from './schema-keywords.js'
import type { JsonType, SchemaObject } from './schema-keywords.js'

/** Whether it is certain that no value is valid under two of the schemas. */
export function areDisjoint(schemas: readonly unknown[], root: unknown): boolean {
  const resolved = schemas.map((schema) => resolve(schema, root))
  return resolved.every((a, i) => resolved.slice(i + 1).every((b) => a !== undefined && b !== undefined && apart(a, b)))
}

function resolve(schema: unknown, root: unknown): SchemaObject | undefined {
  const target = isSchemaObject(schema) && typeof schema.$ref === 'string' ? pointerTarget(root, schema.$ref) : schema
  return isSchemaObject(target) ? target : undefined
}

function apart(a: SchemaObject, b: SchemaObject): boolean {
  const [valuesA, valuesB] = [constants(a), constants(b)]
  if (valuesA !== undefined && valuesB !== undefined) return !valuesA.some((value) => valuesB.includes(value))
  const [typesA, typesB] = [typesOf(a), typesOf(b)]
  if (typesA === undefined || typesB === undefined) return false
  const shared = typesA.filter((type) => typesB.some((other) => overlap(type, other)))
  return shared.length === 0 || (shared.every((type) => type === 'object') && differInAConstant(a, b))
}

const overlap = (a: JsonType, b: JsonType): boolean =>
  a === b || (a === 'integer' && b === 'number') || (a === 'number' && b === 'integer')

/** The only values, as JSON texts, that a schema allows; undefined when it names none. */
function constants(schema: unknown): string[] | undefined {
  if (!isSchemaObject(schema)) return undefined
  if (schema.const !== undefined) return [JSON.stringify(schema.const)]
  return Array.isArray(schema.enum) ? schema.enum.map((value) => JSON.stringify(value)) : undefined
}

/** A required property that is one constant here and another one there: the discriminator of a union. */
function differInAConstant(a: SchemaObject, b: SchemaObject): boolean {
  const { properties: ofA, required: requiredA } = a
  const { properties: ofB, required: requiredB } = b
  if (!isSchemaObject(ofA) || !isSchemaObject(ofB) || !Array.isArray(requiredA) || !Array.isArray(requiredB))
    return false
  return Object.keys(ofA).some((name) => {
    if (!Object.hasOwn(ofB, name) || !requiredA.includes(name) || !requiredB.includes(name)) return false
    const [valuesA, valuesB] = [constants(ofA[name]), constants(ofB[name])]
    return valuesA !== undefined && valuesB !== undefined && !valuesA.some((value) => valuesB.includes(value))
  })
}
