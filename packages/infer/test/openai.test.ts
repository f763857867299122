import { InferError } from '@mirastral/infer'
import OpenAI from 'openai'
import { zodResponseFormat } from 'openai/helpers/zod'
import { describe, expect, it } from 'vitest'
import { z } from 'zod'
import { scriptedGenerator, toolCallsPiece } from './support/scripted-generator.js'
import { startTestServer } from './support/test-server.js'

const messages = [{ role: 'user' as const, content: 'Hello' }]
const model = 'scripted'

describe('the openai client', () => {
  it('gets a whole answer', async () => {
    const generator = scriptedGenerator([{ pieces: ['I', ' hear', ' you.'] }])
    const { client } = await startTestServer({ models: [generator] })
    const completion = await client.chat.completions.create({
      model,
      messages: [
        { role: 'developer', content: 'Listen.' },
        { role: 'user', content: [{ type: 'text', text: 'Hel' }, { type: 'text', text: 'lo' }] }, // prettier-ignore
      ],
      temperature: 0.5,
      top_p: 0.9,
      seed: 7,
      stop: '###',
      max_completion_tokens: 50,
      presence_penalty: 0.1,
      frequency_penalty: -0.1,
      user: 'somebody',
    })
    expect(completion.object).toBe('chat.completion')
    expect(completion.choices[0].message).toEqual({ role: 'assistant', content: 'I hear you.', refusal: null })
    expect(completion.choices[0].finish_reason).toBe('stop')
    expect(completion.usage).toEqual({ prompt_tokens: 4, completion_tokens: 3, total_tokens: 7 })
    expect(generator.requests[0]).toEqual({
      messages: [
        { role: 'system', content: 'Listen.' },
        { role: 'user', content: 'Hello' },
      ],
      temperature: 0.5,
      topP: 0.9,
      seed: 7,
      stop: ['###'],
      maxNewTokens: 50,
      presencePenalty: 0.1,
      frequencyPenalty: -0.1,
    })
  })

  it('gets a stream, with usage at the end when asked', async () => {
    const generator = scriptedGenerator([{ pieces: ['I', ' hear', ' you 🙂'] }])
    const { client } = await startTestServer({ models: [generator] })
    const stream = await client.chat.completions.create({
      model,
      messages,
      stream: true,
      stream_options: { include_usage: true },
    })
    const deltas: string[] = []
    const reasons: string[] = []
    let usage: unknown
    for await (const chunk of stream) {
      expect(chunk.object).toBe('chat.completion.chunk')
      if (chunk.choices.length > 0) {
        deltas.push(chunk.choices[0].delta.content ?? '')
        if (chunk.choices[0].finish_reason !== null) reasons.push(chunk.choices[0].finish_reason)
      }
      usage = chunk.usage ?? usage
    }
    expect(deltas.join('')).toBe('I hear you 🙂')
    expect(reasons).toEqual(['stop'])
    expect(usage).toEqual({ prompt_tokens: 2, completion_tokens: 3, total_tokens: 5 })
  })

  it('gets tool calls, whole and as a stream, and sends the results back', async () => {
    const call = { name: 'weather', arguments: { city: 'Kyiv', days: [1, 2] } }
    const pieces = ['One moment.', toolCallsPiece, JSON.stringify([call, call])]
    const generator = scriptedGenerator([{ pieces }, { pieces }, { pieces }, { pieces: ['Cold.'] }])
    const { client } = await startTestServer({ models: [generator] })
    const tools = [
      {
        type: 'function' as const,
        function: { name: 'weather', description: 'd', parameters: { type: 'object', properties: { city: {} } } },
      },
    ]
    const whole = await client.chat.completions.create({ model, messages, tools, parallel_tool_calls: false })
    expect(whole.choices[0].finish_reason).toBe('tool_calls')
    expect(whole.choices[0].message.content).toBe('One moment.')
    expect(whole.choices[0].message.tool_calls).toHaveLength(1)

    const stream = client.chat.completions.stream({ model, messages, tools })
    const final = await stream.finalChatCompletion()
    const calls = final.choices[0].message.tool_calls ?? []
    expect(final.choices[0].finish_reason).toBe('tool_calls')
    expect(calls.map((c): unknown => (c.type === 'function' ? JSON.parse(c.function.arguments) : null))).toEqual([
      call.arguments,
      call.arguments,
    ])
    expect(calls[0].id).toMatch(/^[a-zA-Z0-9]{9}$/)
    expect(calls[0].id).not.toBe(calls[1].id)

    const runner = client.chat.completions.runTools({
      model,
      messages,
      tools: [
        {
          type: 'function',
          function: {
            name: 'weather',
            parse: JSON.parse,
            parameters: { type: 'object', properties: { city: { type: 'string' } } },
            function: ({ city }: { city: string }) => `cold in ${city}`,
            description: 'd',
          },
        },
      ],
    })
    expect(await runner.finalContent()).toBe('Cold.')
    const last = generator.requests[3]
    const sent = 'messages' in last ? last.messages : []
    expect(sent.map((m) => m.role)).toEqual(['user', 'assistant', 'tool', 'tool'])
    expect(sent[1]).toMatchObject({ content: 'One moment.', toolCalls: [call, call] })
    expect(sent[2]).toMatchObject({ content: 'cold in Kyiv' })
    expect(generator.requests[0]).toMatchObject({ parallelToolCalls: false, tools: [{ name: 'weather' }] })
  })

  it('loses nothing of a tool call that cannot be read', async () => {
    const { client } = await startTestServer({
      models: [scriptedGenerator([{ pieces: ['Wait. ', toolCallsPiece, '[{"name": '] }])],
    })
    const tools = [{ type: 'function' as const, function: { name: 'f' } }]
    const { choices } = await client.chat.completions.create({ model, messages, tools })
    expect(choices[0].message.content).toBe('Wait. [TOOL_CALLS][{"name": ')
    expect(choices[0].finish_reason).toBe('stop')
  })

  it('gets log probabilities', async () => {
    const generator = scriptedGenerator([{ pieces: ['é', 'b'] }, { pieces: ['é', 'b'] }])
    const { client } = await startTestServer({ models: [generator] })
    const whole = await client.chat.completions.create({ model, messages, logprobs: true, top_logprobs: 2 })
    const content = whole.choices[0].logprobs?.content ?? []
    expect(content.map((t) => [t.token, t.bytes, t.top_logprobs.length])).toEqual([
      ['é', [0xc3, 0xa9], 2],
      ['b', [0x62], 2],
    ])
    const stream = client.chat.completions.stream({ model, messages, logprobs: true })
    const streamed = (await stream.finalChatCompletion()).choices[0].logprobs?.content ?? []
    expect(streamed.map((t) => t.token)).toEqual(['é', 'b'])
  })

  it('parses structured output with zod', async () => {
    const Mood = z.object({ mood: z.enum(['calm', 'tense']), score: z.int() })
    const generator = scriptedGenerator([{ pieces: ['{"mood":"calm",', '"score":4}'] }])
    const { client } = await startTestServer({ models: [generator] })
    const { choices } = await client.chat.completions.parse({
      model,
      messages,
      response_format: zodResponseFormat(Mood, 'mood'),
    })
    expect(choices[0].message.parsed).toEqual({ mood: 'calm', score: 4 })
    expect(generator.requests[0]).toMatchObject({
      jsonSchema: { type: 'object', required: ['mood', 'score'], additionalProperties: false },
    })
  })

  it('completes plain text', async () => {
    const generator = scriptedGenerator([{ pieces: [' a', ' time'] }, { pieces: [' a', ' time'], reason: 'length' }])
    const { client } = await startTestServer({ models: [generator] })
    const whole = await client.completions.create({ model, prompt: ['Once upon'], logprobs: 1 })
    expect(whole.choices[0]).toMatchObject({ text: ' a time', finish_reason: 'stop' })
    expect(whole.choices[0].logprobs?.tokens).toEqual([' a', ' time'])
    expect(whole.choices[0].logprobs?.text_offset).toEqual([0, 2])
    let text = ''
    let reason: string | null = null
    for await (const chunk of await client.completions.create({ model, prompt: 'Once upon', stream: true })) {
      text += chunk.choices[0].text
      reason = chunk.choices[0].finish_reason ?? reason
    }
    expect([text, reason]).toEqual([' a time', 'length'])
    expect(generator.requests[0]).toEqual({ prompt: 'Once upon', maxNewTokens: 16, logprobs: 1 })
  })

  it('lists the models and picks one by its name', async () => {
    const models = [scriptedGenerator([{ pieces: ['base'] }], { modelId: 'base' }), scriptedGenerator([{ pieces: ['tuned'] }], { modelId: 'org/tuned' })] // prettier-ignore
    const { client } = await startTestServer({ models })
    const listed = await client.models.list()
    expect(listed.data.map((m) => m.id)).toEqual(['base', 'org/tuned'])
    expect((await client.models.retrieve('org/tuned')).id).toBe('org/tuned')
    const { choices } = await client.chat.completions.create({ model: 'org/tuned', messages })
    expect(choices[0].message.content).toBe('tuned')
    const missing = client.chat.completions.create({ model: 'gpt-4o', messages })
    await expect(missing).rejects.toThrow(OpenAI.NotFoundError)
    await expect(missing).rejects.toMatchObject({ code: 'model_not_found', param: 'model' })
  })

  it('gets notices of the guard as fields that it does not know', async () => {
    const notice = { category: 'suicide', severity: 'acute', text: 'Help.', resources: [{ name: 'Line', phone: '1' }] }
    const generator = scriptedGenerator([
      { pieces: ['a'], notice },
      { pieces: ['a'], notice },
    ])
    const { client } = await startTestServer({ models: [generator] })
    const whole = await client.chat.completions.create({ model, messages })
    expect(whole).toMatchObject({ mirastral: { notices: [notice] }, choices: [{ message: { content: 'a' } }] })
    const chunks = []
    for await (const c of await client.chat.completions.create({ model, messages, stream: true })) chunks.push(c)
    expect(chunks.filter((c) => 'mirastral' in c)).toMatchObject([{ mirastral: { notices: [notice] } }])
  })

  it('reads errors as its own classes', async () => {
    const script = [
      { pieces: [], error: new InferError('MIRASTRAL_INFER_CONTEXT_LENGTH', 'generate: too long') },
      { pieces: [], error: new Error('secret words of a person') },
      { pieces: ['ok'], error: new Error('secret words of a person') },
    ]
    const { client, log } = await startTestServer({ models: [scriptedGenerator(script)] })
    const ask = () => client.chat.completions.create({ model, messages })
    await expect(ask()).rejects.toMatchObject({ status: 400, code: 'context_length_exceeded' })
    const failed = ask()
    await expect(failed).rejects.toThrow(OpenAI.InternalServerError)
    await expect(failed).rejects.not.toThrow('secret')
    const stream = await client.chat.completions.create({ model, messages, stream: true })
    const reading = (async () => {
      for await (const _ of stream);
    })()
    await expect(reading).rejects.toThrow('The server failed to answer')
    expect(JSON.stringify(log)).not.toContain('secret')
    expect(log.filter((r) => r.event === 'error')).toHaveLength(2)
  })

  it.each([
    [{ messages: [] }, 'messages'],
    [{ messages: [{ role: 'robot', content: 'private' }] }, 'messages.0.role'],
    [{ messages: [{ role: 'user', content: [{ type: 'image_url', image_url: { url: 'x' } }] }] }, 'messages.0.content'],
    [{ temperature: 3 }, 'temperature'],
    [{ n: 2 }, 'n'],
    [{ top_logprobs: 3 }, 'top_logprobs'],
    [{ logit_bias: { '5': 1 } }, 'logit_bias.5'],
    [{ tools: [{ type: 'function', function: { name: 'not a name' } }] }, 'tools.0.function.name'],
    [{ tool_choice: 'required' }, 'tool_choice'],
    [{ functions: [] }, 'functions'],
    [{ max_tokens: 0 }, 'max_tokens'],
    [{ stop: ['a', 'b', 'c', 'd', 'e'] }, 'stop'],
    [{ response_format: { type: 'yaml' } }, 'response_format.type'],
    [{ tools: [{ type: 'function', function: { name: 'f' } }], response_format: { type: 'json_object' } }, 'response_format'], // prettier-ignore
    [{ messages: [{ role: 'assistant', tool_calls: [{ id: 'a', function: { name: 'f', arguments: 'private' } }] }] }, 'messages.0.tool_calls'], // prettier-ignore
  ])('is told which part of %j is wrong, and nothing is repeated', async (part, param) => {
    const { client } = await startTestServer({ models: [scriptedGenerator([])] })
    const asking = client.chat.completions.create({ model, messages, ...part } as never)
    await expect(asking).rejects.toThrow(OpenAI.BadRequestError)
    await expect(asking).rejects.toMatchObject({ param, type: 'invalid_request_error' })
    await expect(asking).rejects.not.toThrow('private')
  })
})
