import { InferError, TokenGenerator, ToolCallReader } from '@mirastral/infer'
import type { GenerationEvent, GenerationRequest } from '@mirastral/infer'
import { describe, expect, it } from 'vitest'
import { loadTokenBytes, plainTokenizer, scriptedModel, tokensOf } from './support/scripted-model.js'
import type { ScriptedModel } from './support/scripted-model.js'

const tokens = loadTokenBytes('metaspace')
const end = tokens.specialTokens.get('</s>') ?? -1
const toolCallsId = tokens.specialTokens.get('[TOOL_CALLS]') ?? -1

function generatorOf(script: (string | number)[]): { generator: TokenGenerator; model: ScriptedModel } {
  const ids = script.flatMap((part) => (typeof part === 'number' ? [part] : tokensOf(tokens, part)))
  const model = scriptedModel(ids, { vocabSize: tokens.bytes.length, end })
  return { generator: new TokenGenerator({ model, tokenizer: plainTokenizer(tokens), tokenBytes: tokens }), model }
}

const ask: GenerationRequest = { messages: [{ role: 'user', content: 'hello' }], temperature: 0 }

async function collect(generator: TokenGenerator, request: GenerationRequest, signal?: AbortSignal) {
  const events: GenerationEvent[] = []
  for await (const event of generator.generate(request, signal)) events.push(event)
  const finish = events.at(-1)
  const text = events.map((e) => (e.type === 'token' ? e.text : '')).join('')
  return { events, text, finish: finish?.type === 'finish' ? finish : undefined }
}

describe('TokenGenerator', () => {
  it('gives the text in whole characters and ends with the reason and the counts', async () => {
    const { generator, model } = generatorOf([' I hear you. Grüße 🙂!'])
    const { events, text, finish } = await collect(generator, ask)
    expect(text).toBe('I hear you. Grüße 🙂!')
    for (const event of events) if (event.type === 'token') expect(event.text).not.toMatch(/\ufffd|\p{Surrogate}/u)
    expect(finish?.reason).toBe('stop')
    expect(finish?.usage).toEqual({
      promptTokens: model.prompts[0].length,
      completionTokens: tokensOf(tokens, ' I hear you. Grüße 🙂!').length + 1,
    })
    expect(model.open).toBe(0)
  })

  it('keeps the first space of a continued text', async () => {
    const { generator } = generatorOf([' and on'])
    expect((await collect(generator, { prompt: 'on', temperature: 0 })).text).toBe(' and on')
  })

  it('ends at maxNewTokens without half a character, and at the end of the context', async () => {
    const { generator } = generatorOf(['a🙂'])
    const three = await collect(generator, { ...ask, maxNewTokens: 3 })
    expect([three.text, three.finish?.reason, three.finish?.usage.completionTokens]).toEqual(['a', 'length', 3])
    const { generator: endless } = generatorOf([' on'.repeat(500)])
    const full = await collect(endless, ask)
    expect(full.finish?.reason).toBe('length')
    const { promptTokens = 0, completionTokens = 0 } = full.finish?.usage ?? {}
    expect(promptTokens + completionTokens).toBe(400)
  })

  it('never shows a stop string that is split over tokens, nor reports its tokens', async () => {
    const { generator, model } = generatorOf(['Take care.</en', 'd>Nobody sees this'])
    const { events, text, finish } = await collect(generator, { ...ask, stop: ['</end>'], logprobs: 0 })
    expect(text).toBe('Take care.')
    expect(finish?.reason).toBe('stop')
    const reported = events.map((e) => (e.type === 'token' ? (e.logprobs?.text ?? '') : '')).join('')
    expect(reported).not.toContain('<')
    expect(model.open).toBe(0)
    const nearly = await collect(generatorOf(['a </envy']).generator, { ...ask, stop: ['</end>'] })
    expect(nearly.text).toBe('a </envy')
  })

  it('reports log probabilities of the model itself, most likely first', async () => {
    const { generator } = generatorOf(['é'])
    const { events } = await collect(generator, { ...ask, logprobs: 2, repetitionPenalty: 1.3 })
    const first = events.find((e) => e.type === 'token')
    const logprob = 4 - Math.log(Math.exp(4) + (tokens.bytes.length - 1) * Math.exp(-4))
    expect(first?.logprobs?.logprob).toBeCloseTo(logprob, 5)
    expect(first?.logprobs?.top).toHaveLength(2)
    expect(first?.logprobs?.top[0].tokenId).toBe(first?.tokenId)
  })

  it('writes JSON under a schema, whatever the model would rather say', async () => {
    const { generator } = generatorOf(['I will not answer in JSON'])
    const schema = {
      type: 'object',
      properties: { mood: { enum: ['calm', 'tense'] }, score: { type: 'integer', minimum: 0, maximum: 10 } },
      required: ['mood', 'score'],
    }
    for (let seed = 0; seed < 5; seed++) {
      const { text, finish } = await collect(generator, { ...ask, temperature: 1.5, seed, jsonSchema: schema })
      expect(finish?.reason).toBe('stop')
      const { mood, score } = JSON.parse(text) as { mood: string; score: number }
      expect(['calm', 'tense']).toContain(mood)
      expect(score).toBeGreaterThanOrEqual(0)
      expect(score).toBeLessThanOrEqual(10)
    }
  })

  it('separates the reply from a tool call, which only the control token begins', async () => {
    const { generator } = generatorOf([
      'One moment. [TOOL_CALLS] is text.',
      toolCallsId,
      ' [{"name":"f","arguments":{}}]',
    ])
    const reader = new ToolCallReader(generator.toolCallMarker)
    let reply = ''
    for await (const event of generator.generate(ask)) if (event.type === 'token') reply += reader.push(event)
    const { parse, text } = reader.finish()
    expect(reply + text).toBe('One moment. [TOOL_CALLS] is text.')
    expect(parse).toEqual({ ok: true, calls: [{ name: 'f', arguments: {} }], rest: '' })
  })

  it('calls a tool when one is required, with arguments that are valid', async () => {
    const tools = [
      { name: 'note', parameters: { type: 'object', properties: { n: { $ref: '#/$defs/n' } }, required: ['n'], $defs: { n: { type: 'integer', maximum: 99, minimum: 0 } } } }, // prettier-ignore
      { name: 'other', parameters: { type: 'object', properties: {}, additionalProperties: false } },
    ]
    const { generator } = generatorOf(['No tool for me, thank you'])
    for (const toolChoice of ['required', { name: 'note' }] as const) {
      const reader = new ToolCallReader(generator.toolCallMarker)
      const request = { ...ask, tools, toolChoice, temperature: 1, seed: 4, parallelToolCalls: false }
      for await (const event of generator.generate(request)) if (event.type === 'token') reader.push(event)
      const { parse } = reader.finish()
      expect(parse?.ok).toBe(true)
      if (parse?.ok !== true) return
      expect(parse.calls).toHaveLength(1)
      expect(parse.calls[0].name).toMatch(toolChoice === 'required' ? /note|other/ : /note/)
    }
    await expect(collect(generator, { ...ask, tools, toolChoice: { name: 'gone' } })).rejects.toThrow(
      'toolChoice must name one of the given tools',
    )
  })

  it('repeats itself with a seed and not without', async () => {
    const { generator } = generatorOf([])
    const sample = async (seed?: number) =>
      (await collect(generator, { ...ask, temperature: 50, maxNewTokens: 30, ...(seed === undefined ? {} : { seed }) }))
        .text
    expect(await sample(1)).toBe(await sample(1))
    expect(await sample()).not.toBe(await sample())
  })

  it('throws the reason of an abort, before and in the middle, and leaves nothing open', async () => {
    const { generator, model } = generatorOf([' on'.repeat(100)])
    const reason = new Error('enough')
    await expect(collect(generator, ask, AbortSignal.abort(reason))).rejects.toBe(reason)
    const controller = new AbortController()
    const seen: GenerationEvent[] = []
    const run = async (): Promise<void> => {
      for await (const event of generator.generate(ask, controller.signal)) {
        seen.push(event)
        if (seen.length === 3) controller.abort(reason)
      }
    }
    await expect(run()).rejects.toBe(reason)
    expect(seen).toHaveLength(3)
    for await (const _ of generator.generate(ask)) break
    expect(model.open).toBe(0)
  })

  it('names every option out of range, and a prompt that does not fit, before anything is computed', async () => {
    const { generator, model } = generatorOf([])
    const bad = collect(generator, { ...ask, temperature: -1, topP: 0, seed: 0.5, stop: [''] })
    await expect(bad).rejects.toThrow(InferError)
    await expect(bad).rejects.toThrow(/4 problems:\n.*temperature:.*\n.*topP:.*\n.*seed:.*\n.*stop.0:/)
    const long = collect(generator, { messages: [{ role: 'user', content: 'x'.repeat(600) }] })
    await expect(long).rejects.toMatchObject({ code: 'MIRASTRAL_INFER_CONTEXT_LENGTH' })
    await expect(long).rejects.toThrow(/shorter than the 400 tokens of the context window, got 6\d\d/)
    await expect(collect(generator, { ...ask, jsonSchema: { not: {} } })).rejects.toThrow('"not" is not supported')
    await expect(collect(generator, { messages: [] })).rejects.toThrow('must end with a turn of the user or a tool')
    expect(model.prompts).toEqual([])
  })
})
