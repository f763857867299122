import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { fixture } from '../../test/fixtures.js'
import type { Draft, PreferenceDraft } from '../conversation.js'
import { RecordError } from '../records/rules.js'
import type { JsonObject } from './format.js'
import { formatOfMapping, mappingSchema } from './mapping.js'
import { preference } from './preference.js'
import { FORMATS, asRecord, detectFormat, formatNamed } from './registry.js'

interface FormatCase {
  record: JsonObject
  conversations: Draft[]
  pairs?: PreferenceDraft[]
}

function ruleOf(format: string, record: JsonObject): string {
  try {
    formatNamed(format)?.reformat(record)
  } catch (error) {
    if (error instanceof RecordError) return `${error.rule} at ${error.where}`
    throw error
  }
  return 'none'
}

describe('formats', () => {
  for (const format of FORMATS) {
    const cases = JSON.parse(readFileSync(fixture(`formats/${format.name}.json`), 'utf8')) as FormatCase[]
    it.each(cases.map((row, i) => [i, row] as const))(`recognises ${format.name} and reads its form %i`, (_, row) => {
      expect(detectFormat(row.record)?.format.name).toBe(format.name)
      expect(format.reformat(row.record)).toEqual(row.conversations)
      if (format === preference) expect(preference.pairs(row.record)).toEqual(row.pairs)
    })
  }

  it.each([
    [{ prompt: 'p', completion: 'c', text: 't' }, 'prompt-completion'],
    [{ prompt: 'p', messages: [{ role: 'user', content: 'u' }] }, 'messages'],
    [{ prompt: 'p', chosen: 'c', rejected: 'r', text: 't' }, 'preference'],
    [{ instruction: 'i', context: 'c', response: 'r' }, 'alpaca'],
    [{ conversations: [{ from: 'human', value: 'v' }], text: 't' }, 'sharegpt'],
    [{ messages: '[{"role": "user", "content": "in a CSV cell"}]' }, 'messages'],
  ])('prefers the more certain of two formats: %j is %s', (record, name) => {
    expect(detectFormat(record)?.format.name).toBe(name)
  })

  it.each([
    [{ message: 'Context and Response are words in here' }],
    [{ subcontext: 'c', responses_count: 3 }],
    [{ messages: ['only', 'texts'] }],
    [{ messages: [] }],
    [{ instruction: 'i', output: 5 }],
    [{ chosen: 'c' }],
    [{}],
  ])('does not take a record for a format by accident: %j', (record) => {
    expect(detectFormat(record)).toBeNull()
  })

  it('says how sure it is, and why', () => {
    const { confidence, reason } = detectFormat({ Context: 'c', Response: 'r' }) ?? {}
    expect({ confidence, reason }).toEqual({
      confidence: 0.95,
      reason: 'Context is text and Response is text or a list',
    })
  })

  it.each([
    ['messages', { messages: [{ role: 'wizard', content: 'c' }] }, 'unknown-role at messages.0.role'],
    ['messages', { messages: [{ role: 'user', content: 5 }] }, 'invalid-shape at messages.0.content'],
    [
      'messages',
      { messages: [{ role: 'user', content: [{ type: 'image_url' }] }] },
      'unsupported-content at messages.0.content',
    ],
    [
      'messages',
      {
        messages: [{ role: 'assistant', content: '', tool_calls: [{ function: { name: 'f', arguments: '{broken' } }] }],
      },
      'tool-arguments at messages.0.tool_calls.0',
    ],
    ['sharegpt', { conversations: [{ from: 'ghost', value: 'v' }] }, 'unknown-role at conversations.0.from'],
    ['alpaca', { instruction: 'i', output: 'o', history: [['one']] }, 'invalid-shape at history.0'],
    ['context-response', { Context: 'c', Response: [] }, 'nothing-to-train-on at Response'],
    ['question-answer', { question: 'q', answers: ['a', 5] }, 'invalid-shape at answers.1'],
  ])('names the rule that a broken %s record breaks, and the place', (format, record, expected) => {
    expect(ruleOf(format, record)).toBe(expected)
  })

  it('takes a bare list of messages for a conversation, and nothing else for a record', () => {
    expect(detectFormat(asRecord([{ role: 'user', content: 'u' }]))?.format.name).toBe('messages')
    expect(detectFormat(asRecord([{ from: 'human', value: 'u' }]))?.format.name).toBe('sharegpt')
    for (const value of [null, 5, 'text', [], [1]]) expect(() => asRecord(value)).toThrow(RecordError)
  })

  it('reads a format of the user’s own by a mapping', () => {
    const pairs = formatOfMapping(mappingSchema.parse({ user: 'client.said', assistant: 'reply', system: 'style' }))
    expect(pairs.reformat({ client: { said: 'a' }, reply: 'b', style: 's' })).toEqual([
      {
        turns: [
          { role: 'system', content: 's' },
          { role: 'user', content: 'a' },
          { role: 'assistant', content: 'b' },
        ],
      },
    ])
    const mapping = { turns: 'log', role: 'who', content: 'what', roles: { therapist: 'assistant', client: 'user' } }
    const lists = formatOfMapping(mappingSchema.parse(mapping))
    const log = [
      { who: 'client', what: 'a' },
      { who: 'therapist', what: 'b' },
    ]
    expect(lists.reformat({ log })[0].turns.map((turn) => turn.role)).toEqual(['user', 'assistant'])
    expect(() => lists.reformat({ log: [{ who: 'nobody', what: 'a' }] })).toThrow(RecordError)
    expect(() => lists.reformat({})).toThrow(RecordError)
  })
})
