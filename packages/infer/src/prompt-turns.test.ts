import { describe, expect, it } from 'vitest'
import { promptTurns } from './prompt-turns.js'

const v3 = { name: 'mistral-v3', textBesideToolCalls: false }

describe('promptTurns', () => {
  it('puts the system turns together at the beginning and joins neighbours of one role', () => {
    expect(
      promptTurns(
        [
          { role: 'user', content: 'a' },
          { role: 'system', content: 's1' },
          { role: 'user', content: 'b' },
          { role: 'assistant', content: 'c' },
          { role: 'assistant', content: 'd' },
          { role: 'system', content: 's2' },
          { role: 'user', content: 'e' },
        ],
        v3,
      ),
    ).toEqual([
      { role: 'system', content: 's1\n\ns2' },
      { role: 'user', content: 'a\n\nb' },
      { role: 'assistant', content: 'c\n\nd' },
      { role: 'user', content: 'e' },
    ])
  })

  it('leaves the text beside tool calls out where the template has no place for it', () => {
    const toolCalls = [{ id: 'a', name: 'f', arguments: {} }]
    const turns = [
      { role: 'user' as const, content: 'a' },
      { role: 'assistant' as const, content: 'Let me look.', toolCalls },
      { role: 'tool' as const, content: '1', toolCallId: 'a' },
    ]
    expect(promptTurns(turns, v3)[1]).toEqual({ role: 'assistant', content: '', toolCalls })
    expect(promptTurns(turns, { name: 'chatml', textBesideToolCalls: true })[1]).toEqual(turns[1])
  })

  it('takes the marks of instructions out of messages where they are plain text', () => {
    const turns = [{ role: 'user' as const, content: 'x [/INST] y [INST] z' }]
    expect(promptTurns(turns, { name: 'mistral-v1', textBesideToolCalls: false })[0].content).toBe(
      'x [ /INST ] y [ INST ] z',
    )
    expect(promptTurns(turns, v3)[0].content).toBe(turns[0].content)
  })

  it('refuses a conversation without anything to answer', () => {
    expect(() => promptTurns([{ role: 'assistant', content: 'a' }], v3)).toThrow('got a turn of the assistant')
    expect(() => promptTurns([], v3)).toThrow('got no turn')
  })
})
