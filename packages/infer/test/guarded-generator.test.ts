import { Chat, guardGenerator, guardTokenId } from '@mirastral/infer'
import type { ConversationGuard, GenerationEvent, InputDecision, TextGenerator } from '@mirastral/infer'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { scriptedGenerator, toolCallsPiece } from './support/scripted-generator.js'
import { startTestServer } from './support/test-server.js'

const notice = { category: 'suicide', severity: 'acute', text: 'Help is there.', resources: [] }

/** Holds text back up to the next full stop, and ends the answer where a sentence says "unsafe". */
function sentenceGuard(decide: (newest: string) => InputDecision = () => ({ action: 'answer' })): ConversationGuard {
  return {
    checkInput: (turns) => Promise.resolve(decide(turns.findLast((t) => t.role === 'user')?.content ?? '')),
    watchOutput: () => {
      let held = ''
      const step = (upTo: number) => {
        const [sentences, rest] = [held.slice(0, upTo), held.slice(upTo)]
        const at = sentences.indexOf('unsafe')
        held = rest
        if (at === -1) return { text: sentences }
        const safe = sentences.lastIndexOf('.', at) + 1
        return { text: sentences.slice(0, safe), ending: { text: ' Let us talk about something else.', notice } }
      }
      return {
        push: (text) => {
          held += text
          return step(held.lastIndexOf('.') + 1)
        },
        finish: () => step(held.length),
      }
    },
  }
}

async function collect(generator: TextGenerator, content = 'hello'): Promise<GenerationEvent[]> {
  const events: GenerationEvent[] = []
  for await (const event of generator.generate({ messages: [{ role: 'user', content }], logprobs: 0 }))
    events.push(event)
  return events
}

const textOf = (events: GenerationEvent[]): string => events.map((e) => (e.type === 'token' ? e.text : '')).join('')

describe('guardGenerator', () => {
  it('shows a safe answer whole, however it is cut into tokens', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.string({ unit: fc.constantFrom('a', '.', ' ', '🙂'), maxLength: 5 })),
        async (pieces) => {
          const events = await collect(guardGenerator(scriptedGenerator([{ pieces }]), sentenceGuard()))
          expect(textOf(events)).toBe(pieces.join(''))
          expect(events.at(-1)).toMatchObject({ type: 'finish', reason: 'stop' })
          expect(events.filter((e) => e.type === 'token')).toHaveLength(pieces.length)
        },
      ),
    )
  })

  it('shows nothing unsafe, neither as text nor as log probabilities, and ends the generation', async () => {
    const generator = scriptedGenerator([{ pieces: ['All good. Now', ' something un', 'safe here.', ' And more.'] }])
    const events = await collect(guardGenerator(generator, sentenceGuard()))
    expect(textOf(events)).toBe('All good. Let us talk about something else.')
    expect(JSON.stringify(events)).not.toMatch(/something un|safe here|And more/)
    expect(events.map((e) => e.type)).toEqual(['token', 'notice', 'token', 'finish'])
    expect(events.at(-1)).toEqual({
      type: 'finish',
      reason: 'content_filter',
      usage: { promptTokens: 2, completionTokens: 3 },
    })
    expect(generator.active).toBe(0)
  })

  it('is asked at the end about text that it held back', async () => {
    const generator = scriptedGenerator([
      { pieces: ['Fine. This is un', 'safe'] },
      { pieces: ['Fine. This is', ' safe'] },
    ])
    const guarded = guardGenerator(generator, sentenceGuard())
    expect(textOf(await collect(guarded))).toBe('Fine. Let us talk about something else.')
    expect(textOf(await collect(guarded))).toBe('Fine. This is safe')
  })

  it('answers in place of the model', async () => {
    const generator = scriptedGenerator([])
    const guarded = guardGenerator(
      generator,
      sentenceGuard(() => ({ action: 'respond', text: 'Please call 112.', notice })),
    )
    const events = await collect(guarded)
    expect(events).toEqual([
      { type: 'notice', notice },
      { type: 'token', text: 'Please call 112.', tokenId: guardTokenId },
      { type: 'finish', reason: 'stop', usage: { promptTokens: 2, completionTokens: 0 } },
    ])
    expect(generator.requests).toEqual([])
  })

  it('adds instructions for the model, and a notice for the person', async () => {
    const generator = scriptedGenerator([{ pieces: ['ok'] }])
    const decide = (): InputDecision => ({ action: 'answer', instructions: 'Be gentle.', notice })
    const events = await collect(guardGenerator(generator, sentenceGuard(decide)))
    expect(events[0]).toEqual({ type: 'notice', notice })
    expect(generator.requests[0]).toMatchObject({
      messages: [
        { role: 'system', content: 'Be gentle.' },
        { role: 'user', content: 'hello' },
      ],
    })
  })

  it('lets tool calls through, and what pretends to be one it treats as text', async () => {
    const call = '[{"name":"note","arguments":{"text":"unsafe."}}]'
    const generator = scriptedGenerator([
      { pieces: ['Wait', toolCallsPiece, call] },
      { pieces: [toolCallsPiece, 'this is unsafe.'] },
      { pieces: [toolCallsPiece, `${call} and this is unsafe.`] },
      { pieces: ['This is unsafe', toolCallsPiece, call] },
    ])
    const guarded = guardGenerator(generator, sentenceGuard())
    const real = await collect(guarded)
    expect(real.map((e) => (e.type === 'token' ? [e.text, e.toolCalls] : e.type))).toEqual([
      ['Wait', undefined],
      ['', true],
      [call, undefined],
      'finish',
    ])
    for (let i = 0; i < 3; i++) {
      const events = await collect(guarded)
      expect(textOf(events)).toBe(' Let us talk about something else.')
      expect(events.some((e) => e.type === 'token' && e.toolCalls === true)).toBe(false)
    }
  })

  it('stands in the path of the chat and of the server', async () => {
    const generator = scriptedGenerator(() => ({ pieces: ['This is ', 'unsafe.'] }))
    const guarded = guardGenerator(generator, sentenceGuard())
    const said: string[] = []
    for await (const event of new Chat({ generator: guarded }).send('hi'))
      if (event.type === 'text') said.push(event.text)
    expect(said).toEqual([' Let us talk about something else.'])

    const { client } = await startTestServer({ models: [guarded] })
    const messages = [{ role: 'user' as const, content: 'hi' }]
    const whole = await client.chat.completions.create({ model: 'scripted', messages })
    expect(whole.choices[0]).toMatchObject({ message: { content: said[0] }, finish_reason: 'content_filter' })
    expect(whole).toMatchObject({ mirastral: { notices: [notice] } })
    const text = await client.completions.create({ model: 'scripted', prompt: 'hi' })
    expect(text.choices[0].text).toBe(said[0])
  })
})
