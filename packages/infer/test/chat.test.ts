import { Chat, InferError, defineTool } from '@mirastral/infer'
import type { ChatEvent, ChatOptions } from '@mirastral/infer'
import { describe, expect, it } from 'vitest'
import { z } from 'zod'
import { scriptedGenerator, toolCallsPiece } from './support/scripted-generator.js'
import type { ScriptedAnswer } from './support/scripted-generator.js'

const say = (...pieces: string[]): ScriptedAnswer => ({ pieces })
const callPieces = (...calls: { name: string; arguments?: unknown }[]): string[] => [
  toolCallsPiece,
  JSON.stringify(calls),
]

async function send(chat: Chat, message: string, signal?: AbortSignal): Promise<{ events: ChatEvent[]; text: string }> {
  const events: ChatEvent[] = []
  for await (const event of chat.send(message, signal)) events.push(event)
  return { events, text: events.map((e) => (e.type === 'text' ? e.text : '')).join('') }
}

function chatOf(script: ScriptedAnswer[], options: Partial<ChatOptions> & { contextLength?: number } = {}) {
  const generator = scriptedGenerator(script, { contextLength: options.contextLength ?? 4096 })
  return { generator, chat: new Chat({ generator, ...options }) }
}

const weather = defineTool({
  name: 'weather',
  description: 'The weather of a city',
  parameters: z.object({ city: z.string() }),
  run: ({ city }) => ({ city, celsius: 7 }),
})

describe('Chat', () => {
  it('keeps what was said and sends it with the next message', async () => {
    const { chat, generator } = chatOf([say('Hello', '.'), say('Yes.')], { systemPrompt: 'Listen.' })
    expect((await send(chat, 'Hi')).text).toBe('Hello.')
    await send(chat, 'Really?')
    expect(generator.requests[1]).toMatchObject({
      messages: [
        { role: 'system', content: 'Listen.' },
        { role: 'user', content: 'Hi' },
        { role: 'assistant', content: 'Hello.' },
        { role: 'user', content: 'Really?' },
      ],
    })
    chat.clear()
    expect(chat.turns).toEqual([])
  })

  it('drops the oldest exchanges when the window is full, never the system prompt', async () => {
    const script = Array.from({ length: 8 }, (_, i) => say(`answer ${i} with seven more words in it`))
    const { chat, generator } = chatOf(script, {
      systemPrompt: 'Always kept system prompt.',
      contextLength: 60,
      generation: { maxNewTokens: 20 },
    })
    for (let i = 0; i < 8; i++) await send(chat, `message ${i}`)
    const last = generator.requests[7]
    const messages = 'messages' in last ? last.messages : []
    expect(generator.countTokens(messages)).toBeLessThanOrEqual(40)
    expect(messages.map((m) => m.role)).toEqual(['system', 'user', 'assistant', 'user', 'assistant', 'user'])
    expect(messages[0].content).toBe('Always kept system prompt.')
    expect(messages.at(-1)?.content).toBe('message 7')
    expect(chat.turns).toHaveLength(16)
  })

  it('summarises what has to go, once, and keeps the summary in the system prompt', async () => {
    const summaries: [number, string][] = []
    const script = Array.from({ length: 9 }, (_, i) => say(`answer ${i} with seven more words in it`))
    const { chat, generator } = chatOf(script, {
      systemPrompt: 'System.',
      contextLength: 80,
      generation: { maxNewTokens: 20 },
      summarize: (dropped, earlier) => {
        summaries.push([dropped.length, earlier])
        return Promise.resolve(`summary ${summaries.length}`)
      },
    })
    for (let i = 0; i < 9; i++) await send(chat, `message ${i}`)
    expect(summaries.length).toBeGreaterThan(0)
    expect(summaries.length).toBeLessThan(4)
    expect(summaries[0][1]).toBe('')
    const last = generator.requests[8]
    const messages = 'messages' in last ? last.messages : []
    expect(messages[0].content).toBe(`System.\n\nEarlier in this conversation:\n${chat.summary}`)
    const kept = messages.length - 1
    expect(summaries.reduce((sum, [count]) => sum + count, 0) + kept).toBe(17)
  })

  it('refuses a message that cannot fit and forgets it', async () => {
    const { chat } = chatOf([say('x')], { contextLength: 20, systemPrompt: 'One two three.' })
    const sending = send(chat, 'word '.repeat(40))
    await expect(sending).rejects.toThrow(InferError)
    await expect(sending).rejects.toMatchObject({ code: 'MIRASTRAL_INFER_CONTEXT_LENGTH' })
    await expect(sending).rejects.not.toThrow('word')
    expect(chat.turns).toEqual([])
  })

  it('uses the profile within its budget and reads it anew for each reply', async () => {
    const entry = (kind: 'goal' | 'fact', text: string, n: number) => ({
      id: String(n),
      kind,
      text,
      agreedAt: '2024-01-01T00:00:00.000Z',
      updatedAt: `2024-01-0${n}T00:00:00.000Z`,
    })
    const entries = [
      entry('fact', 'has\na  sister', 1),
      entry('goal', 'sleep better', 2),
      entry('fact', 'long '.repeat(99), 3),
    ]
    const { chat, generator } = chatOf([say('a'), say('b')], {
      systemPrompt: 'S.',
      profile: () => entries,
      profileTokens: 40,
    })
    await send(chat, 'x')
    entries.length = 0
    await send(chat, 'y')
    const system = generator.requests.map((r) => ('messages' in r ? r.messages[0].content : ''))
    expect(system[0]).toMatch(/^S\.\n\nWhat this person .*:\n- Goal: sleep better\n- About them: has a sister$/)
    expect(system[1]).toBe('S.')
  })

  it('remembers what was said before an abort, and forgets a message without any answer', async () => {
    const slow = { pieces: ['One', ' two', ' three'], delayMs: 30 }
    const { chat } = chatOf([slow, slow])
    const controller = new AbortController()
    const reason = new Error('stopped')
    const run = async (): Promise<void> => {
      for await (const event of chat.send('go', controller.signal)) if (event.type === 'text') controller.abort(reason)
    }
    await expect(run()).rejects.toBe(reason)
    expect(chat.turns).toEqual([
      { role: 'user', content: 'go' },
      { role: 'assistant', content: 'One' },
    ])
    await expect(send(chat, 'again', AbortSignal.abort(reason))).rejects.toBe(reason)
    expect(chat.turns).toHaveLength(2)
  })

  it('takes one message at a time', async () => {
    const { chat } = chatOf([{ pieces: ['a', 'b'], delayMs: 5 }, say('c')])
    const first = send(chat, 'one')
    await expect(send(chat, 'two')).rejects.toThrow('one message at a time')
    await first
    expect((await send(chat, 'two')).text).toBe('c')
  })
})

describe('tools in a chat', () => {
  it('runs the calls and gives the results back, and the person reads both texts', async () => {
    const script = [
      { pieces: ['Let me look. ', ...callPieces({ name: 'weather', arguments: { city: 'Kyiv' } })] },
      say('It is cold', ' there.'),
    ]
    const { chat, generator } = chatOf(script, { tools: [weather] })
    const { events, text } = await send(chat, 'How is the weather?')
    expect(text).toBe('Let me look. \n\nIt is cold there.')
    expect(events.map((e) => e.type)).toEqual(['text', 'toolCall', 'toolResult', 'text', 'text', 'finish'])
    const second = generator.requests[1]
    expect('messages' in second ? second.messages.slice(1) : []).toMatchObject([
      { role: 'assistant', content: 'Let me look. ', toolCalls: [{ name: 'weather', arguments: { city: 'Kyiv' } }] },
      { role: 'tool', content: '{"city":"Kyiv","celsius":7}', name: 'weather' },
    ])
    expect(chat.turns.map((t) => t.role)).toEqual(['user', 'assistant', 'tool', 'assistant'])
    expect(chat.turns[3].content).toBe('It is cold there.')
    const ids = chat.turns.flatMap((t) => (t.role === 'assistant' ? (t.toolCalls ?? []) : [])).map((c) => c.id)
    expect(ids[0]).toMatch(/^[a-zA-Z0-9]{9}$/)
    expect(chat.turns[2]).toMatchObject({ toolCallId: ids[0] })
  })

  it('runs several calls side by side and keeps their order in the history', async () => {
    const order: string[] = []
    const make = (name: string, ms: number) =>
      defineTool({
        name,
        parameters: z.object({}),
        run: async () => {
          order.push(`start ${name}`)
          await new Promise((resolve) => setTimeout(resolve, ms))
          order.push(`end ${name}`)
          return name
        },
      })
    const { chat } = chatOf([{ pieces: callPieces({ name: 'slow' }, { name: 'fast' }) }, say('Done.')], {
      tools: [make('slow', 60), make('fast', 1)],
    })
    const { events } = await send(chat, 'go')
    expect(order).toEqual(['start slow', 'start fast', 'end fast', 'end slow'])
    expect(events.flatMap((e) => (e.type === 'toolResult' ? [e.name] : []))).toEqual(['fast', 'slow'])
    expect(chat.turns.flatMap((t) => (t.role === 'tool' ? [t.content] : []))).toEqual(['slow', 'fast'])
  })

  it('tells the model about wrong arguments, unknown tools, failures and time-outs, and goes on', async () => {
    const broken = defineTool({
      name: 'broken',
      parameters: z.object({}),
      run: () => {
        throw new Error('no connection')
      },
    })
    const hanging = defineTool({
      name: 'hanging',
      parameters: z.object({}),
      timeoutMs: 20,
      run: () => new Promise(() => 0),
    })
    const calls = callPieces(
      { name: 'weather', arguments: { city: 5 } },
      { name: 'nothing' },
      { name: 'broken' },
      { name: 'hanging' },
    )
    const { chat } = chatOf([{ pieces: calls }, say('I could not look that up.')], {
      tools: [weather, broken, hanging],
    })
    expect((await send(chat, 'go')).text).toBe('I could not look that up.')
    const results = chat.turns.flatMap((t) => (t.role === 'tool' ? [t.content] : []))
    expect(results[0]).toContain('the arguments are not valid: city:')
    expect(results[1]).toContain('there is no such tool; the tools are: weather, broken, hanging')
    expect(results[2]).toContain('no connection')
    expect(results[3]).toContain('did not answer within 0.02 seconds')
  })

  it('tells the model when its call cannot be read, without showing it to the person', async () => {
    const script = [{ pieces: [toolCallsPiece, '[{"name": "weather", "argum'] }, say('Sorry, once more.')]
    const { chat } = chatOf(script, { tools: [weather] })
    expect((await send(chat, 'go')).text).toBe('Sorry, once more.')
    expect(chat.turns[2]).toMatchObject({ role: 'tool', content: '{"error":"the list of tool calls does not end"}' })
  })

  it('always answers the person: after too many rounds without tools, and when the model is silent', async () => {
    const again = { pieces: callPieces({ name: 'weather', arguments: { city: 'x' } }) }
    const rounds = chatOf([again, again, say('Here it is.')], { tools: [weather], limits: { toolRounds: 2 } })
    expect((await send(rounds.chat, 'go')).text).toBe('Here it is.')
    expect(rounds.generator.requests.map((r) => 'tools' in r)).toEqual([true, true, false])

    const silent = chatOf([again, say(''), say(' ')], { tools: [weather], emptyReply: 'I am here.' })
    expect((await send(silent.chat, 'go')).text).toContain('I am here.')
    expect(silent.chat.turns.at(-1)).toEqual({ role: 'assistant', content: 'I am here.' })

    const stubborn = chatOf([again, again, again], { tools: [weather], limits: { toolRounds: 2 }, emptyReply: 'Yes?' })
    expect((await send(stubborn.chat, 'go')).text).toBe('Yes?')
  })

  it('carries out no more calls at once than allowed', async () => {
    let ran = 0
    const count = defineTool({ name: 'count', parameters: z.object({}), run: () => ++ran })
    const calls = callPieces(...Array.from({ length: 5 }, () => ({ name: 'count' })))
    const { chat } = chatOf([{ pieces: calls }, say('ok')], { tools: [count], limits: { callsPerRound: 2 } })
    await send(chat, 'go')
    expect(ran).toBe(2)
    expect(chat.turns.filter((t) => t.role === 'tool' && t.content.includes('at most 2 calls'))).toHaveLength(3)
  })

  it('aborts the tools with the reply', async () => {
    let aborted = false
    const waiting = defineTool({
      name: 'waiting',
      parameters: z.object({}),
      run: (_, { signal }) => new Promise((_resolve, reject) => signal.addEventListener('abort', () => {
        aborted = true
        reject(new Error('gone'))
      })), // prettier-ignore
    })
    const { chat } = chatOf([{ pieces: callPieces({ name: 'waiting' }) }], { tools: [waiting] })
    const controller = new AbortController()
    const reason = new Error('stopped')
    setTimeout(() => controller.abort(reason), 20)
    await expect(send(chat, 'go', controller.signal)).rejects.toBe(reason)
    expect(aborted).toBe(true)
  })

  it('shows each notice of a guard once, however many rounds there are', async () => {
    const notice = { category: 'suicide', severity: 'acute', text: 'Help is there.', resources: [] }
    const script = [
      { pieces: callPieces({ name: 'weather', arguments: { city: 'x' } }), notice },
      { pieces: ['ok'], notice },
    ]
    const { events } = await send(chatOf(script, { tools: [weather] }).chat, 'go')
    expect(events.filter((e) => e.type === 'notice')).toEqual([{ type: 'notice', notice }])
    expect(events[0].type).toBe('notice')
  })
})

describe('defineTool', () => {
  it('gives the model a JSON schema and cuts long results', async () => {
    expect(weather.tool).toEqual({
      name: 'weather',
      description: 'The weather of a city',
      parameters: { type: 'object', properties: { city: { type: 'string' } }, required: ['city'] },
    })
    const long = defineTool({ name: 'long', parameters: z.object({}), run: () => 'x'.repeat(40_000) })
    const { content } = await long.call({})
    expect(content).toMatch(/^x{16000} \.\.\. \(cut: 40000 characters in all\)$/)
  })

  it('refuses unusable names, schemas without a JSON form, and two tools of one name', () => {
    const make = (name: string, parameters = z.object({})) => defineTool({ name, parameters, run: () => 1 })
    expect(() => make('get weather')).toThrow('defineTool: a name must be 1 to 64 letters, digits, _ or -')
    expect(() => make('dates', z.object({ at: z.date() }))).toThrow('the parameters of dates have no JSON schema')
    const chat = new Chat({ generator: scriptedGenerator([say('x')]), tools: [make('a'), make('a')] })
    return expect(send(chat, 'go')).rejects.toThrow('a name may be used once, got a twice')
  })
})
