import { describe, expect, it } from 'vitest'
import type { Turn } from '../conversation.js'
import { DEFAULT_LIMITS } from '../read/limits.js'
import { normalize } from './normalize.js'
import { RecordError } from './rules.js'

const user = (content: string): Turn => ({ role: 'user', content })
const assistant = (content: string): Turn => ({ role: 'assistant', content })
const system = (content: string): Turn => ({ role: 'system', content })
const calling = (...ids: (string | undefined)[]): Turn => ({
  role: 'assistant',
  content: '',
  toolCalls: ids.map((id) => ({ ...(id === undefined ? {} : { id }), name: 'f', arguments: {} })),
})
const result = (toolCallId?: string): Turn => ({
  role: 'tool',
  content: 'r',
  ...(toolCallId === undefined ? {} : { toolCallId }),
})

const options = { limits: DEFAULT_LIMITS, textBesideToolCalls: false }

function ruleFor(turns: Turn[], limits = DEFAULT_LIMITS): string {
  try {
    normalize({ turns }, { ...options, limits })
    return 'none'
  } catch (error) {
    if (error instanceof RecordError) return error.rule
    throw error
  }
}

describe('normalize', () => {
  it('leaves a conversation alone that is as templates need it', () => {
    const turns = [system('s'), user('a'), calling('x'), result('x'), assistant('b'), user('c'), assistant('d')]
    expect(normalize({ turns }, options)).toEqual({ draft: { turns }, adjustments: [] })
  })

  it('joins system turns and puts them first', () => {
    const { draft, adjustments } = normalize({ turns: [user('a'), system('s'), assistant('b'), system('t')] }, options)
    expect(draft.turns).toEqual([system('s\n\nt'), user('a'), assistant('b')])
    expect(adjustments).toEqual(['system-joined'])
  })

  it('merges turns of one role in a row with an empty line between, as mistral-common does', () => {
    const { draft, adjustments } = normalize({ turns: [user('a'), user('b'), assistant('c'), assistant('d')] }, options)
    expect(draft.turns).toEqual([user('a\n\nb'), assistant('c\n\nd')])
    expect(adjustments).toEqual(['turns-merged'])
  })

  it('keeps what lies between the first question and the last answer', () => {
    const { draft, adjustments } = normalize(
      { turns: [assistant('hello'), user('a'), assistant('b'), user('c')] },
      options,
    )
    expect(draft.turns).toEqual([user('a'), assistant('b')])
    expect(adjustments).toEqual(['leading-assistant-removed', 'trailing-turns-removed'])
  })

  it('removes turns without text', () => {
    const { draft, adjustments } = normalize(
      { turns: [user('a'), assistant('  '), user('b'), assistant('c')] },
      options,
    )
    expect(draft.turns).toEqual([user('a\n\nb'), assistant('c')])
    expect(adjustments).toEqual(['empty-turn-removed', 'turns-merged'])
  })

  it('gives ids to calls that have none, and to the results that answer them in order', () => {
    const turns = [user('a'), calling(undefined, undefined), result(), result(), assistant('b')]
    const { draft, adjustments } = normalize({ turns }, options)
    const [, call, first, second] = draft.turns
    const ids = call.role === 'assistant' ? (call.toolCalls ?? []).map(({ id }) => id) : []
    expect(new Set(ids).size).toBe(2)
    expect([first, second].map((turn) => (turn.role === 'tool' ? turn.toolCallId : ''))).toEqual(ids)
    expect(adjustments).toEqual(['tool-call-id-added'])
  })

  it('drops text beside a tool call where the template has no place for it, and keeps it elsewhere', () => {
    const both: Turn = { role: 'assistant', content: 'one moment', toolCalls: [{ id: 'x', name: 'f', arguments: {} }] }
    const turns = [user('a'), both]
    expect(normalize({ turns }, options).draft.turns[1].content).toBe('')
    expect(normalize({ turns }, { ...options, textBesideToolCalls: true }).draft.turns[1].content).toBe('one moment')
  })

  it.each([
    ['nothing-to-train-on', [user('a')]],
    ['nothing-to-train-on', [user('a'), { role: 'assistant', content: 'b', train: false }]],
    ['no-user-turn', [assistant('b')]],
    ['tool-result-without-call', [user('a'), result('x'), assistant('b')]],
    ['tool-result-without-call', [user('a'), calling('x'), result('y'), assistant('b')]],
    ['tool-result-missing', [user('a'), calling('x', 'y'), result('x'), assistant('b')]],
    ['tool-result-missing', [user('a'), calling('x'), user('c'), assistant('b')]],
    ['tool-call-id', [user('a'), calling('x', 'x'), result('x'), result('x'), assistant('b')]],
    ['lone-surrogate', [user('a\ud800'), assistant('b')]],
    ['control-character', [user('a'), assistant('b\0')]],
    ['control-character', [user('a'), assistant('b\ufdd0')]],
  ] as [string, Turn[]][])('refuses by the rule %s', (rule, turns) => {
    expect(ruleFor(turns)).toBe(rule)
  })

  it('refuses what is larger than the limits', () => {
    const limits = { ...DEFAULT_LIMITS, maxTurns: 2, maxTextLength: 3, maxDepth: 4 }
    expect(ruleFor([user('a'), assistant('b'), user('c')], limits)).toBe('too-many-turns')
    expect(ruleFor([user('abcd'), assistant('b')], limits)).toBe('text-too-long')
    const deep = { id: 'x', name: 'f', arguments: { a: { b: { c: { d: { e: 1 } } } } } }
    expect(ruleFor([user('a'), { role: 'assistant', content: '', toolCalls: [deep] }], limits)).toBe('too-deep')
  })
})
