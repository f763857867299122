import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { FileError } from './file-problems.js'
import { DEFAULT_LIMITS } from './limits.js'
import type { RawRecord } from './raw-record.js'
import { readJson, readJsonLines } from './read-json.js'

async function* inChunks(text: string | Uint8Array, size: number): AsyncGenerator<Uint8Array> {
  const bytes = typeof text === 'string' ? Buffer.from(text) : text
  for (let at = 0; at < bytes.length; at += size) yield await Promise.resolve(bytes.subarray(at, at + size))
}

function plain(record: RawRecord): unknown {
  if ('rule' in record) return record.rule
  if ('value' in record) return record.value
  try {
    return JSON.parse(Buffer.from(record.bytes).toString())
  } catch {
    return 'not JSON'
  }
}

async function valuesOf(text: string, size = 7, limits = DEFAULT_LIMITS): Promise<unknown[]> {
  const values: unknown[] = []
  for await (const records of readJson(inChunks(text, size), { limits })) values.push(...records.map(plain))
  return values
}

async function linesOf(text: string, size = 7, limits = DEFAULT_LIMITS): Promise<unknown[]> {
  const values: unknown[] = []
  for await (const records of readJsonLines(inChunks(text, size), { limits })) values.push(...records.map(plain))
  return values
}

const problemOf = (text: string): Promise<string> =>
  valuesOf(text).then(
    () => 'none',
    (error: unknown) => (error instanceof FileError ? error.problem : String(error)),
  )

const a = { question: 'a "quoted" } ] \\', answer: '[{' }
const b = { question: 'b\u2028é🙂', answer: 'c' }

describe('readJson', () => {
  it.each([
    ['a list', [a, b]],
    ['an object that wraps a list', { version: 1, data: [a, b] }],
    ['a list two objects deep', { export: { sessions: [a, b] } }],
    ['several lists', { train: [a], validation: [b] }],
    ['records by their names', { first: a, second: b }],
  ])('finds the records in %s', async (_, value) => {
    expect(await valuesOf(JSON.stringify(value))).toEqual([a, b])
    expect(await valuesOf(JSON.stringify(value, null, 2), 1)).toEqual([a, b])
  })

  it('takes a single record for itself', async () => {
    expect(await valuesOf(JSON.stringify(a))).toEqual([a])
    const chat = { id: 1, messages: [{ role: 'user', content: 'u' }], tags: [{ name: 'n' }] }
    expect(await valuesOf(JSON.stringify(chat))).toEqual([chat])
  })

  it('takes a list of messages for one conversation, and a list of such lists for several', async () => {
    const list = [
      { role: 'user', content: 'u' },
      { role: 'assistant', content: 'v' },
    ]
    expect(await valuesOf(JSON.stringify(list))).toEqual([list])
    expect(await valuesOf(JSON.stringify([list, list]))).toEqual([list, list])
    expect(await valuesOf(JSON.stringify({ data: [list, list] }))).toEqual([list, list])
  })

  it('reads values one after another, with or without commas between', async () => {
    expect(await valuesOf(`${JSON.stringify(a)}\n${JSON.stringify(b)}`)).toEqual([a, b])
    expect(await valuesOf(`${JSON.stringify(a)},\n${JSON.stringify(b)},`)).toEqual([a, b])
    expect(await valuesOf(`${JSON.stringify([a])} ${JSON.stringify([b])}`)).toEqual([a, b])
  })

  it('finds the same records wherever the chunks are cut', async () => {
    const text = JSON.stringify([a, b, { list: [[], {}, '\\"'] }, 5, 'text', null])
    const whole = await valuesOf(text, text.length * 4)
    for (let size = 1; size < 24; size++) expect(await valuesOf(text, size)).toEqual(whole)
  })

  it('gives back any list of JSON values (property)', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.jsonValue(), { maxLength: 6 }),
        fc.integer({ min: 1, max: 40 }),
        async (list, size) => {
          // A list of message-like objects is one conversation; nothing here has a role.
          const expected = JSON.parse(JSON.stringify(list)) as unknown[]
          expect(await valuesOf(JSON.stringify(list, null, 1), size)).toEqual(expected)
        },
      ),
      { numRuns: 200, seed: 2 },
    )
  })

  it('leaves a broken element to the one who parses it, and goes on', async () => {
    expect(await valuesOf('[{"a": tru}, {"b": 1}, , {"c": 2},]')).toEqual(['not JSON', { b: 1 }, 'not JSON', { c: 2 }])
  })

  it.each([
    ['[{"a": 1}, {"b"', 'truncated'],
    ['{"data": [{"a": 1}', 'truncated'],
    ['["unclosed', 'truncated'],
    ['', 'no-records'],
    ['  \n ', 'no-records'],
    ['hello', 'not-json'],
    ['"text"', 'not-json'],
    ['[1] garbage', 'not-json'],
    ['[1]]', 'not-json'],
  ])('reports %j as %s', async (text, problem) => {
    expect(await problemOf(text)).toBe(problem)
  })

  it('passes over an element that is too large or too deep without holding it', async () => {
    const limits = { ...DEFAULT_LIMITS, maxRecordBytes: 100, maxDepth: 5 }
    const large = { text: 'x'.repeat(500) }
    const deep = JSON.parse(`${'{"a":'.repeat(9)}1${'}'.repeat(9)}`) as unknown
    expect(await valuesOf(JSON.stringify([large, b, deep, b]), 16, limits)).toEqual([
      'record-too-large',
      b,
      'too-deep',
      b,
    ])
  })

  it('cuts the lists out of an object that is larger than one record may be', async () => {
    const limits = { ...DEFAULT_LIMITS, maxRecordBytes: 200 }
    const many = Array.from({ length: 20 }, (_, i) => ({ question: `q${i}`, answer: 'a' }))
    const text = JSON.stringify({ version: 'x', note: { deep: ['not', 'these'] }, data: many, more: [b] })
    for (const size of [1, 13, 5000]) expect(await valuesOf(text, size, limits)).toEqual([...many, b])
  })

  it('survives a hundred thousand brackets', async () => {
    expect(await valuesOf(`[${'['.repeat(100_000)}${']'.repeat(100_000)}]`, 1000)).toEqual(['too-deep'])
  })
})

describe('readJsonLines', () => {
  it('cuts at line ends, leaves blank lines out and loses only broken lines', async () => {
    expect(await linesOf(`${JSON.stringify(a)}\r\n\n  \n{broken\n${JSON.stringify(b)}`)).toEqual([a, 'not JSON', b])
  })

  it('reads a value over several lines as JSON', async () => {
    const all = 10_000
    for (const text of [JSON.stringify([a, b], null, 2), `[${JSON.stringify(a)},\r\n${JSON.stringify(b)}\n]`]) {
      expect(await linesOf(`\n${text}`, all)).toEqual([a, b])
    }
    expect(await linesOf(`${JSON.stringify(a, null, 2)}\n${JSON.stringify(b, null, 2)}`, all)).toEqual([a, b])
    // A broken line that opens a list is still one line.
    expect(await linesOf(`[{"cut\n${JSON.stringify(b)}`, all)).toEqual(['not JSON', b])
  })

  it('passes over a line that is too long', async () => {
    const limits = { ...DEFAULT_LIMITS, maxRecordBytes: 50 }
    const text = `${JSON.stringify({ x: 'y'.repeat(1000) })}\n${JSON.stringify({ ok: 1 })}\n`
    for (const size of [3, 10_000]) expect(await linesOf(text, size, limits)).toEqual(['record-too-large', { ok: 1 }])
  })
})
