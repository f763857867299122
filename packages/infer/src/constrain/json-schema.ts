import { InferError, listProblems } from '../errors.js'
import { choice, never, rule, text } from './grammar.js'
import type { Grammar, GrammarRules } from './grammar.js'
import {
  baseRules,
  jsonArray,
  jsonInteger,
  jsonMap,
  jsonNumber,
  jsonObject,
  jsonRules,
  jsonTuple,
} from './json-grammar.js'
import { integersIn, maxInteger, numbersIn } from './number-ranges.js'
import type { NumberRange } from './number-ranges.js'
import { areDisjoint } from './schema-disjoint.js'
import { isSchemaObject, keywordsOf, limits, pointerTarget, typesOf } from './schema-keywords.js'
import type { JsonType, SchemaObject } from './schema-keywords.js'
import { stringGrammar } from './schema-strings.js'

/**
 * The texts that a constrained answer may be: JSON that is valid under the schema, properties in the order in which the
 * schema names them, no properties that it does not name. Not every valid text belongs to it, but every text that belongs
 * to it is valid.
 *
 * Enforced: `type`, `properties`, `required`, `additionalProperties`, `items`, `prefixItems`, `minItems`, `maxItems`,
 * `enum`, `const`, `anyOf`, `oneOf` whose alternatives exclude each other, `allOf` of one, `$ref` inside the schema,
 * `minLength`, `maxLength`, `pattern`, common `format`s, and bounds of numbers that are integers. Annotations are ignored.
 * Throws `InferError` that lists every other keyword with its place, because ignoring one would give invalid answers.
 * `prefix` begins the names of the schema's own rules, so that the grammars of several schemas can be put together.
 */
export function jsonSchemaGrammar(schema: unknown, prefix = ''): GrammarRules {
  return new SchemaCompiler(schema, prefix).compile()
}

class SchemaCompiler {
  readonly #root: unknown
  readonly #rules = baseRules()
  readonly #problems: string[] = []
  readonly #shared = new Map<string, string>()
  readonly #prefix: string
  #depth = 0

  constructor(root: unknown, prefix: string) {
    this.#root = root
    this.#prefix = prefix
  }

  compile(): GrammarRules {
    const start = this.#schema(this.#root, '#')
    if (this.#problems.length > 0) {
      const head = 'jsonSchema: cannot be enforced while generating'
      throw new InferError('MIRASTRAL_INFER_SCHEMA', listProblems(head, [...new Set(this.#problems)]))
    }
    return { start, rules: this.#rules }
  }

  #problem(path: string, message: string): Grammar {
    this.#problems.push(`${path}: ${message}`)
    return never
  }

  /** A rule with this body; the same body gives the same rule. */
  readonly #share = (body: Grammar): Grammar => {
    const key = JSON.stringify(body, (_key, value: unknown) => (value === Infinity ? 'Infinity' : value))
    const name = this.#shared.get(key) ?? `${this.#prefix}#${this.#shared.size}`
    this.#shared.set(key, name)
    this.#rules.set(name, body)
    return rule(name)
  }

  #schema(schema: unknown, path: string): Grammar {
    if (schema === true) return rule(jsonRules.value)
    if (schema === false) return never
    if (!isSchemaObject(schema)) return this.#problem(path, 'a schema must be an object, true or false')
    if (this.#depth >= limits.depth) return this.#problem(path, `nested more than ${limits.depth} levels deep`)
    this.#depth++
    const grammar = this.#keywords(schema, path)
    this.#depth--
    return grammar
  }

  #keywords(schema: SchemaObject, path: string): Grammar {
    const { problems, applicator } = keywordsOf(schema)
    for (const problem of problems) this.#problem(path, problem)
    if (problems.length > 0) return never
    switch (applicator) {
      case '$ref':
        return this.#reference(schema.$ref, path)
      case 'anyOf':
      case 'oneOf':
      case 'allOf':
        return this.#alternatives(applicator, schema[applicator], path)
      case 'const':
        return this.#values([schema.const], schema, path)
      case 'enum':
        return this.#values(schema.enum, schema, path)
      case undefined:
        return this.#byType(schema, path)
    }
  }

  #reference(reference: unknown, path: string): Grammar {
    const target = typeof reference === 'string' ? pointerTarget(this.#root, reference) : undefined
    if (target === undefined)
      return this.#problem(path, '$ref must point to a place inside the schema, as in #/$defs/name')
    const name = `${this.#prefix}$ref ${String(reference)}`
    if (!this.#rules.has(name)) {
      this.#rules.set(name, never)
      this.#rules.set(name, this.#schema(target, String(reference)))
    }
    return rule(name)
  }

  #alternatives(keyword: 'anyOf' | 'oneOf' | 'allOf', value: unknown, path: string): Grammar {
    if (!Array.isArray(value) || value.length === 0) return this.#problem(path, `${keyword} must be a list of schemas`)
    if (value.length > limits.values) return this.#problem(path, `${keyword} may have at most ${limits.values} entries`)
    if (keyword === 'allOf' && value.length > 1) {
      return this.#problem(path, 'allOf of several schemas is not supported; merge them into one')
    }
    if (keyword === 'oneOf' && !areDisjoint(value, this.#root)) {
      return this.#problem(path, 'oneOf needs alternatives that cannot both match (by type or by a constant property); use anyOf') // prettier-ignore
    }
    return choice(...value.map((option, i) => this.#schema(option, `${path}/${keyword}/${i}`)))
  }

  #values(values: unknown, schema: SchemaObject, path: string): Grammar {
    if (!Array.isArray(values) || values.length === 0) return this.#problem(path, 'enum must be a list of values')
    if (values.length > limits.values) return this.#problem(path, `enum may have at most ${limits.values} values`)
    const types = typesOf(schema)
    const fitting = values.filter((value) => types === undefined || types.some((type) => hasType(value, type)))
    if (fitting.length === 0) return this.#problem(path, 'no value of enum or const has the given type')
    return choice(...fitting.map((value) => text(JSON.stringify(value))))
  }

  #byType(schema: SchemaObject, path: string): Grammar {
    const types = typesOf(schema)
    if (types === undefined) return rule(jsonRules.value)
    return choice(...types.map((type) => this.#ofType(type, schema, path)))
  }

  #ofType(type: JsonType, schema: SchemaObject, path: string): Grammar {
    switch (type) {
      case 'null':
        return text('null')
      case 'boolean':
        return choice(text('true'), text('false'))
      case 'string': {
        const grammar = stringGrammar(schema, this.#share)
        return typeof grammar === 'string' ? this.#problem(path, grammar) : grammar
      }
      case 'integer':
      case 'number':
        return this.#number(type, schema, path)
      case 'array':
        return this.#array(schema, path)
      case 'object':
        return this.#object(schema, path)
    }
  }

  #number(type: 'integer' | 'number', schema: SchemaObject, path: string): Grammar {
    const { minimum, maximum, exclusiveMinimum, exclusiveMaximum } = schema
    if (schema.multipleOf !== undefined && !(type === 'integer' && schema.multipleOf === 1)) {
      return this.#problem(path, 'multipleOf is not supported; use the type integer, or check the answer afterwards')
    }
    const bounds = [minimum, maximum, exclusiveMinimum, exclusiveMaximum].filter((bound) => bound !== undefined)
    if (bounds.length === 0) return type === 'integer' ? jsonInteger : jsonNumber
    if (!bounds.every((bound) => Number.isSafeInteger(bound) && Math.abs(Number(bound)) <= 2 ** 53 - 1)) {
      return this.#problem(path, 'minimum, maximum, exclusiveMinimum and exclusiveMaximum must be integers')
    }
    const number = (bound: unknown, otherwise: number): number => (typeof bound === 'number' ? bound : otherwise)
    const low = Math.max(number(minimum, -maxInteger), number(exclusiveMinimum, -maxInteger))
    const high = Math.min(number(maximum, maxInteger), number(exclusiveMaximum, maxInteger))
    const range: NumberRange = {
      low,
      high,
      lowExcluded: exclusiveMinimum === low,
      highExcluded: exclusiveMaximum === high,
    }
    return this.#share(type === 'integer' ? integersIn(range) : numbersIn(range))
  }

  #array(schema: SchemaObject, path: string): Grammar {
    const { minItems = 0, maxItems = Infinity, prefixItems, items = true } = schema as Record<string, unknown>
    if (!isCount(minItems) || !(maxItems === Infinity || isCount(maxItems)) || minItems > Number(maxItems)) {
      return this.#problem(path, `minItems and maxItems must be counts up to ${limits.items}, in order`)
    }
    if (prefixItems !== undefined)
      return this.#tuple(prefixItems, items, { minItems, maxItems: Number(maxItems) }, path)
    const item = this.#share(this.#schema(items, `${path}/items`))
    return jsonArray(item, minItems, items === false ? 0 : Number(maxItems))
  }

  /** All prefix items are given and nothing after them: valid whenever the count fits. */
  #tuple(prefixItems: unknown, items: unknown, count: { minItems: number; maxItems: number }, path: string): Grammar {
    if (!Array.isArray(prefixItems)) return this.#problem(path, 'prefixItems must be a list of schemas')
    if (prefixItems.length < count.minItems || prefixItems.length > count.maxItems) {
      return this.#problem(path, 'minItems and maxItems must allow exactly the prefixItems')
    }
    if (typeof items !== 'boolean') this.#schema(items, `${path}/items`)
    return jsonTuple(prefixItems.map((item, i) => this.#schema(item, `${path}/prefixItems/${i}`)))
  }

  #object(schema: SchemaObject, path: string): Grammar {
    const { properties = {}, required = [], additionalProperties = true } = schema
    if (!isSchemaObject(properties)) return this.#problem(path, 'properties must be an object of schemas')
    if (!Array.isArray(required) || !required.every((name) => typeof name === 'string')) {
      return this.#problem(path, 'required must be a list of names')
    }
    const names = Object.keys(properties)
    if (names.length > limits.values) return this.#problem(path, `at most ${limits.values} properties`)
    const unnamed = required.filter((name) => !names.includes(name))
    if (unnamed.length > 0) return this.#problem(path, `${unnamed.length} of the required names are not in properties`)
    if (names.length === 0 && additionalProperties !== false) {
      return jsonMap(this.#share(this.#schema(additionalProperties, `${path}/additionalProperties`)))
    }
    if (typeof additionalProperties !== 'boolean') {
      this.#schema(additionalProperties, `${path}/additionalProperties`)
    }
    const members = names.map((name) => ({
      name,
      value: this.#schema(properties[name], `${path}/properties/${name}`),
      required: required.includes(name),
    }))
    return jsonObject(members, this.#share)
  }
}

const isCount = (value: unknown): value is number =>
  typeof value === 'number' && Number.isInteger(value) && value >= 0 && value <= limits.items

function hasType(value: unknown, type: JsonType): boolean {
  if (value === null) return type === 'null'
  if (Array.isArray(value)) return type === 'array'
  if (type === 'integer') return Number.isInteger(value)
  return typeof value === type
}
