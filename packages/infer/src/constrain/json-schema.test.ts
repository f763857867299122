import { describe, expect, it } from 'vitest'
import { z } from 'zod'
import { InferError } from '../errors.js'
import { Automaton } from './automaton.js'
import type { State } from './automaton.js'
import { jsonSchemaGrammar } from './json-schema.js'
import { compileGrammar } from './program.js'

function automatonOf(schema: unknown): Automaton {
  return new Automaton(compileGrammar(jsonSchemaGrammar(schema)))
}

function accepts(automaton: Automaton, text: string): boolean {
  let state: State | null = automaton.start()
  for (const byte of Buffer.from(text)) {
    state = automaton.step(state, byte)
    if (state === null) return false
  }
  return state.accepting
}

/** The indices of the texts that are accepted. */
const accepted = (schema: unknown, texts: string[]): string[] => {
  const automaton = automatonOf(schema)
  return texts.filter((text) => accepts(automaton, text))
}

const problemOf = (schema: unknown): string => {
  try {
    compileGrammar(jsonSchemaGrammar(schema))
  } catch (error) {
    expect(error).toBeInstanceOf(InferError)
    expect(error).toMatchObject({ code: 'MIRASTRAL_INFER_SCHEMA', exitCode: 2 })
    return (error as InferError).message
  }
  return ''
}

describe('jsonSchemaGrammar', () => {
  it('takes any JSON value without a schema, and nothing that is not JSON', () => {
    const good = ['0', '-1.5e10', '"a"', '""', 'true', 'null', '[]', '{}', '[1, [2], {"a": "b", "c": [null]}]', '"é🙂"']
    const bad = [
      '',
      '01',
      '+1',
      '.5',
      '1.',
      "'a'",
      '[1,]',
      '{"a"}',
      '{a: 1}',
      '"a',
      '"\n"',
      'tru',
      '[1 2]',
      '1 ',
      'NaN',
    ]
    expect(accepted({}, [...good, ...bad])).toEqual(good)
  })

  it('takes escapes in strings, but no half of a surrogate pair', () => {
    const good = ['"\\n\\"\\\\\\/"', '"\\u00e9"', '"\\ud7ff"']
    const bad = ['"\\x"', '"\\ud83d"', '"\\uDC00"', '"\\u12"', '"\t"']
    expect(accepted({ type: 'string' }, [...good, ...bad])).toEqual(good)
  })

  it('takes only well-formed UTF-8', () => {
    const automaton = automatonOf({ type: 'string' })
    const after = (...bytes: number[]): boolean => {
      let state: State | null = automaton.start()
      for (const b of [0x22, ...bytes]) state = state === null ? null : automaton.step(state, b)
      return state !== null
    }
    expect(after(0xc3, 0xa9)).toBe(true)
    expect(after(0xf0, 0x9f, 0x99, 0x82)).toBe(true)
    expect(after(0xf4, 0x8f, 0xbf, 0xbf)).toBe(true)
    expect(after(0xc0, 0x80)).toBe(false)
    expect(after(0xe0, 0x80)).toBe(false)
    expect(after(0xed, 0xa0)).toBe(false)
    expect(after(0xf4, 0x90)).toBe(false)
    expect(after(0x80)).toBe(false)
  })

  it('takes the properties in order, required ones always, and no others', () => {
    const schema = {
      type: 'object',
      properties: { a: { type: 'integer' }, b: { type: 'boolean' }, c: { type: 'null' } },
      required: ['b'],
    }
    const good = [
      '{"b":true}',
      '{"a": 1, "b": false}',
      '{"b":true,"c":null}',
      '{\n  "a": 1,\n  "b": true,\n  "c": null\n}',
    ]
    const bad = ['{}', '{"a":1}', '{"c":null,"b":true}', '{"b":true,"d":1}', '{"b":true,}', '{"b":1}', '{,"b":true}']
    expect(accepted(schema, [...good, ...bad])).toEqual(good)
    expect(accepted({ type: 'object', properties: {}, additionalProperties: false }, ['{}', '{ }', '{"a":1}'])).toEqual(
      ['{}', '{ }'],
    )
    expect(accepted({ type: 'object', properties: { 'q"\n': {} } }, ['{}', '{"q\\"\\n":1}'])).toHaveLength(2)
  })

  it('bounds how much white space may come between two parts', () => {
    const schema = { type: 'array', items: { type: 'integer' } }
    expect(accepted(schema, ['[1, 2]', '[1,\n 2]', '[1,  2]', `[1,\n${' '.repeat(41)}2]`])).toEqual([
      '[1, 2]',
      '[1,\n 2]',
    ])
  })

  it('counts the items of arrays and the characters of strings', () => {
    const list = { type: 'array', items: { type: 'integer' }, minItems: 1, maxItems: 3 }
    expect(accepted(list, ['[]', '[1]', '[1,2,3]', '[1,2,3,4]'])).toEqual(['[1]', '[1,2,3]'])
    expect(accepted({ type: 'array', maxItems: 0 }, ['[]', '[1]'])).toEqual(['[]'])
    expect(accepted({ type: 'array', items: false }, ['[]', '[1]'])).toEqual(['[]'])
    const tuple = { type: 'array', prefixItems: [{ type: 'string' }, { type: 'integer' }] }
    expect(accepted(tuple, ['["a",1]', '["a"]', '["a",1,2]'])).toEqual(['["a",1]'])
    const word = { type: 'string', minLength: 2, maxLength: 3 }
    expect(accepted(word, ['"a"', '"äß"', '"🙂🙂🙂"', '"\\n\\u0041b"', '"abcd"'])).toEqual([
      '"äß"',
      '"🙂🙂🙂"',
      '"\\n\\u0041b"',
    ])
  })

  it('keeps numbers inside their bounds', () => {
    const check = (schema: Record<string, unknown>, candidates: number[]): void => {
      const expected = candidates.filter((x) => z.fromJSONSchema(schema).safeParse(x).success)
      expect(accepted(schema, candidates.map(String))).toEqual(expected.map(String))
    }
    const integers = Array.from({ length: 261 }, (_, i) => i - 130)
    check({ type: 'integer', minimum: -7, maximum: 123 }, integers)
    check({ type: 'integer', exclusiveMinimum: 9, exclusiveMaximum: 100 }, integers)
    check({ type: 'integer', minimum: -99, maximum: -10 }, integers)
    check({ type: 'integer', minimum: 95 }, [...integers, 999, 1000, 94, 123456789])
    check({ type: 'integer', maximum: 0 }, integers)
    const numbers = integers.flatMap((n) => [n, n + 0.5, n + 0.001, n - 0.25])
    check({ type: 'number', minimum: 0, maximum: 1 }, numbers)
    check({ type: 'number', exclusiveMinimum: 0, maximum: 10 }, numbers)
    check({ type: 'number', exclusiveMinimum: -3, exclusiveMaximum: 3 }, numbers)
    check({ type: 'number', minimum: -20, exclusiveMaximum: -19 }, numbers)
    check({ type: 'number', exclusiveMinimum: 0 }, [...numbers, 1e9, 12345.678])
    check({ type: 'number', maximum: 5 }, numbers)
    expect(accepted({ type: 'number', exclusiveMaximum: 100 }, ['99.99999999999', '99.9999999999999999'])).toEqual([
      '99.99999999999',
    ])
  })

  it('offers enum and const values of the declared type', () => {
    expect(accepted({ enum: ['a', 1, null, { k: [1] }] }, ['"a"', '1', 'null', '{"k":[1]}', '"b"'])).toHaveLength(4)
    expect(accepted({ type: ['string', 'null'], enum: ['a', 1, null] }, ['"a"', '1', 'null'])).toEqual(['"a"', 'null'])
    expect(accepted({ const: 'x"y' }, ['"x\\"y"', '"x"'])).toEqual(['"x\\"y"'])
  })

  it('follows alternatives and references, also to itself', () => {
    const tree = {
      $ref: '#/$defs/node',
      $defs: {
        node: {
          type: 'object',
          properties: { v: { type: 'integer' }, next: { anyOf: [{ $ref: '#/$defs/node' }, { type: 'null' }] } },
          required: ['v', 'next'],
        },
      },
    }
    const texts = ['{"v":1,"next":null}', '{"v":1,"next":{"v":2,"next":null}}', '{"v":1,"next":{"v":2}}', 'null']
    expect(accepted(tree, texts)).toEqual(texts.slice(0, 2))
    expect(accepted({ type: ['integer', 'null'] }, ['1', 'null', '""'])).toEqual(['1', 'null'])
    expect(accepted({ allOf: [{ type: 'null' }] }, ['null', '1'])).toEqual(['null'])
    const union = z.toJSONSchema(
      z.discriminatedUnion('kind', [
        z.object({ kind: z.literal('a'), n: z.int() }),
        z.object({ kind: z.literal('b'), s: z.string() }),
      ]),
    )
    expect(accepted(union, ['{"kind":"a","n":1}', '{"kind":"b","s":"x"}', '{"kind":"a","s":"x"}'])).toHaveLength(2)
    expect(accepted({ oneOf: [{ type: 'integer' }, { type: 'string' }] }, ['1', '"a"', 'null'])).toHaveLength(2)
  })

  it('goes no deeper than any reasonable text, and then still closes what is open', () => {
    const automaton = automatonOf({})
    let state: State | null = automaton.start()
    let depth = 0
    for (; depth < 1000; depth++) {
      const next: State | null = automaton.step(state, 0x5b)
      if (next === null) break
      state = next
    }
    expect(depth).toBeGreaterThan(40)
    expect(depth).toBeLessThan(300)
    for (let i = 0; i < depth; i++) {
      const next: State | null = automaton.step(state, 0x5d)
      expect(next).not.toBeNull()
      if (next !== null) state = next
    }
    expect(state.accepting).toBe(true)
  })

  it('follows patterns, anchored or not, and writes them with the escapes of JSON', () => {
    expect(accepted({ type: 'string', pattern: '^[a-c]{2,3}$' }, ['"ab"', '"abc"', '"a"', '"abcd"', '"ad"'])).toEqual([
      '"ab"',
      '"abc"',
    ])
    expect(accepted({ type: 'string', pattern: 'b' }, ['"abc"', '"b"', '"ac"', '""'])).toEqual(['"abc"', '"b"'])
    expect(accepted({ type: 'string', pattern: '^(?:yes|no)$|^maybe' }, ['"yes"', '"maybe so"', '"yesno"'])).toEqual([
      '"yes"',
      '"maybe so"',
    ])
    expect(accepted({ type: 'string', pattern: '^["\\\\\\n]$' }, ['"\\""', '"\\\\"', '"\\n"', '"n"'])).toEqual([
      '"\\""',
      '"\\\\"',
      '"\\n"',
    ])
    expect(
      accepted({ type: 'string', pattern: '^[^a-z]\\d+\\.?\\u{1F642}$' }, ['"Z12.🙂"', '"a1🙂"', '"ä1🙂"']),
    ).toEqual(['"Z12.🙂"', '"ä1🙂"'])
  })

  it('writes every common format so that zod agrees', () => {
    const samples = {
      date: ['2024-02-28', '2024-13-01', '2024-02-30'],
      'date-time': ['1999-12-28T23:59:59Z', '2024-01-01T24:00:00Z'],
      uuid: ['0b5e3d7c-1a2b-4c3d-8e4f-00112233aabb', '0b5e3d7c-1a2b-4c3d-0e4f-00112233aabb'],
      email: ['a.b@c-d.org', 'anna.k@example.org', '.a@b.cd'],
    }
    for (const [format, values] of Object.entries(samples)) {
      const fromUs = accepted({ type: 'string', format }, values.map((v) => JSON.stringify(v))) // prettier-ignore
      expect(fromUs.length).toBeGreaterThan(0)
      for (const text of fromUs) {
        expect(z.fromJSONSchema({ type: 'string', format } as never).safeParse(JSON.parse(text)).success).toBe(true)
      }
    }
    const dated = z.toJSONSchema(z.object({ day: z.iso.date() }))
    expect(accepted(dated, ['{"day":"2024-02-29"}', '{"day":"2023-02-29"}'])).toEqual(['{"day":"2024-02-29"}'])
  })

  it('reports every keyword that it cannot enforce, with its place', () => {
    const message = problemOf({
      type: 'object',
      properties: {
        a: { type: 'number', multipleOf: 0.1 },
        b: { type: 'array', uniqueItems: true },
        c: { not: { type: 'null' } },
        d: { type: 'string', format: 'uri' },
        e: { type: 'string', pattern: '(?=x)y' },
        f: { type: 'number', minimum: 0.5 },
        g: { $ref: 'https://example.org/schema' },
        h: { oneOf: [{ type: 'string' }, { type: 'string', maxLength: 3 }] },
        i: { type: 'text' },
        j: { type: 'string', minLength: 1, pattern: 'a' },
      },
    })
    for (const part of [
      'jsonSchema: cannot be enforced while generating, 10 problems:',
      '#/properties/a: multipleOf is not supported',
      '#/properties/b: the keyword "uniqueItems" is not supported',
      '#/properties/c: the keyword "not" is not supported',
      '#/properties/d: format must be date, time, date-time, uuid, email',
      '#/properties/e: pattern cannot be followed: look-around',
      '#/properties/f: minimum, maximum, exclusiveMinimum and exclusiveMaximum must be integers',
      '#/properties/g: $ref must point to a place inside the schema',
      '#/properties/h: oneOf needs alternatives that cannot both match',
      '#/properties/i: type must be one or several of object',
      '#/properties/j: a length cannot be combined with pattern or format',
    ]) {
      expect(message).toContain(part)
    }
  })

  it('refuses what has no finite answer, and schemas without end', () => {
    const endless = { type: 'object', properties: { c: { $ref: '#' } }, required: ['c'] }
    expect(problemOf(endless)).toContain('no finite JSON text is valid')
    expect(problemOf({ $ref: '#' })).toContain('no finite JSON text is valid')
    expect(accepted({ anyOf: [{ type: 'null' }, { $ref: '#' }] }, ['null', '1'])).toEqual(['null'])
    expect(problemOf(false)).toContain('no finite JSON text is valid')
    expect(problemOf({ type: 'integer', minimum: 3, maximum: 2 })).toContain('no finite JSON text is valid')
    expect(problemOf({ type: 'string', maxLength: 1e9 })).toContain('lengths up to 5000')
    let deep: Record<string, unknown> = {}
    for (let i = 0; i < 100; i++) deep = { type: 'array', items: deep }
    expect(problemOf(deep)).toContain('nested more than 64 levels deep')
    const wide = { type: 'array', maxItems: 1000, minItems: 900, items: { enum: Array.from({ length: 40 }, (_, i) => `value number ${i}`) } } // prettier-ignore
    expect(() => compileGrammar(jsonSchemaGrammar(wide))).not.toThrow()
  })

  it.each([null, 5, [], 'x', { properties: 5 }, { required: 'a' }, { enum: [] }, { anyOf: {} }, { prefixItems: 1 }])(
    'refuses the malformed schema %j',
    (schema) => {
      expect(problemOf(schema)).toMatch(/^jsonSchema: cannot be enforced while generating: #: \S/)
    },
  )
})
