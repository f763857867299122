import { request as httpRequest } from 'node:http'
import { connect } from 'node:net'
import { createApp, serve } from '@mirastral/infer'
import type { ServerLimits, TextGenerator } from '@mirastral/infer'
import OpenAI from 'openai'
import { describe, expect, it } from 'vitest'
import { scriptedGenerator } from './support/scripted-generator.js'
import { startTestServer, until } from './support/test-server.js'

const messages = [{ role: 'user' as const, content: 'private words' }]
const model = 'scripted'
const body = JSON.stringify({ model, messages })
const words = (n: number, delayMs = 0) => ({ pieces: Array.from({ length: n }, (_, i) => ` w${i}`), delayMs })

const post = (url: string, init: RequestInit & { path?: string } = {}): Promise<Response> =>
  fetch(`${url}${init.path ?? '/v1/chat/completions'}`, {
    method: 'POST',
    body,
    ...init,
    headers: { 'content-type': 'application/json', ...init.headers },
  })

/** `fetch` refuses to set Host and Origin; this does not. */
function rawRequest(url: string, headers: Record<string, string>): Promise<number> {
  return new Promise((resolve, reject) => {
    const request = httpRequest(`${url}/v1/models`, { headers }, (response) => {
      response.resume()
      response.on('end', () => resolve(response.statusCode ?? 0))
    })
    request.on('error', reject).end()
  })
}

describe('many at once', () => {
  it('serves 50 streams, each whole and in order, within its places', async () => {
    const generator = scriptedGenerator(() => words(20, 2))
    const { client, load, log } = await startTestServer({
      models: [generator],
      limits: { concurrency: 8, queue: 64 },
    })
    const expected = words(20).pieces.join('')
    const texts = await Promise.all(
      Array.from({ length: 50 }, async () => {
        let text = ''
        const stream = await client.chat.completions.create({ model, messages, stream: true })
        for await (const chunk of stream) text += chunk.choices[0].delta.content ?? ''
        return text
      }),
    )
    expect(texts).toEqual(Array.from({ length: 50 }, () => expected))
    expect(generator.mostActive).toBe(8)
    await until(() => log.filter((r) => r.event === 'request').length === 50)
    expect(load()).toEqual({ active: 0, queued: 0 })
  })

  it('refuses what the queue cannot take, at once and with a hint when to come back', async () => {
    const generator = scriptedGenerator(() => words(10, 20))
    const { client, url, load } = await startTestServer({ models: [generator], limits: { concurrency: 1, queue: 1 } })
    const running = [client.chat.completions.create({ model, messages })]
    await until(() => load().active === 1)
    running.push(client.chat.completions.create({ model, messages }))
    await until(() => load().queued === 1)
    const refused = await post(url)
    expect(refused.status).toBe(429)
    expect(refused.headers.get('retry-after')).toBe('5')
    expect(await refused.json()).toMatchObject({ error: { code: 'queue_full' } })
    await Promise.all(running)
  })

  it('lets a request wait only so long', async () => {
    const generator = scriptedGenerator(() => words(30, 20))
    const { client, load } = await startTestServer({ models: [generator], limits: { concurrency: 1, queueMs: 30 } })
    const first = client.chat.completions.create({ model, messages })
    await until(() => load().active === 1)
    const second = client.chat.completions.create({ model, messages })
    await expect(second).rejects.toMatchObject({ status: 503, code: 'queue_timeout' })
    await first
  })

  it('limits the requests of one caller in a minute', async () => {
    const { url } = await startTestServer({
      models: [scriptedGenerator(() => words(1))],
      limits: { requestsPerMinute: 3 },
    })
    const statuses = []
    for (let i = 0; i < 5; i++) statuses.push((await post(url)).status)
    expect(statuses).toEqual([200, 200, 200, 429, 429])
    expect((await fetch(`${url}/health`)).status).toBe(200)
  })
})

describe('requests that end early', () => {
  it('frees the place of a stream that its client leaves, and stops the generation', async () => {
    const generator = scriptedGenerator(() => words(1000, 5))
    const { client, load, log } = await startTestServer({ models: [generator], limits: { concurrency: 2 } })
    for (let round = 0; round < 5; round++) {
      const streams = await Promise.all(
        [1, 2].map(() => client.chat.completions.create({ model, messages, stream: true })),
      )
      for (const stream of streams) {
        for await (const chunk of stream) if (chunk.choices[0].delta.content !== '') break
      }
      await until(() => load().active === 0 && generator.active === 0)
    }
    expect(log.filter((r) => r.event === 'request' && r.status === 499)).toHaveLength(10)
    expect(generator.requests).toHaveLength(10)
  })

  it('stops the generation of a stream that is left before its first event is read', async () => {
    const generator = scriptedGenerator(() => words(1000, 5))
    const app = createApp({ models: [generator] })
    for (const wait of [0, 20]) {
      const request = new Request('http://127.0.0.1/v1/completions', {
        method: 'POST',
        headers: { 'content-type': 'application/json', host: '127.0.0.1' },
        body: JSON.stringify({ model, prompt: 'private words', max_tokens: 500, stream: true }),
      })
      const response = await app.fetch(request)
      await new Promise((resolve) => setTimeout(resolve, wait))
      await response.body?.cancel()
      await until(() => app.load().active === 0 && generator.active === 0)
    }
    expect(generator.requests).toHaveLength(2)
  })

  it('frees the place of a whole answer, and of a request that waits', async () => {
    const generator = scriptedGenerator(() => words(1000, 5))
    const { client, load } = await startTestServer({ models: [generator], limits: { concurrency: 1 } })
    const [first, second] = [new AbortController(), new AbortController()]
    const asking = [first, second].map(({ signal }) => client.chat.completions.create({ model, messages }, { signal }))
    const settled = Promise.allSettled(asking)
    await until(() => load().active === 1 && load().queued === 1)
    second.abort()
    await until(() => load().queued === 0)
    first.abort()
    await until(() => load().active === 0 && generator.active === 0)
    expect((await settled).map((r) => r.status)).toEqual(['rejected', 'rejected'])
    expect(generator.requests).toHaveLength(1)
  })

  it('ends an answer that takes too long, whole or as a stream', async () => {
    const generator = scriptedGenerator(() => words(1000, 5))
    const { client, load } = await startTestServer({ models: [generator], limits: { requestMs: 60 } })
    await expect(client.chat.completions.create({ model, messages })).rejects.toMatchObject({ status: 504 })
    const stream = await client.chat.completions.create({ model, messages, stream: true })
    let text = ''
    const reading = (async () => {
      for await (const chunk of stream) text += chunk.choices[0].delta.content ?? ''
    })()
    await expect(reading).rejects.toThrow('The answer took longer than')
    expect(text).toContain('w0')
    await until(() => load().active === 0 && generator.active === 0)
  })

  it('does not generate faster than a client reads', async () => {
    let made = 0
    const script = scriptedGenerator(() => ({ pieces: Array.from({ length: 4000 }, () => 'x'.repeat(4096)) }))
    const generator: TextGenerator = {
      ...script,
      async *generate(request, signal) {
        for await (const event of script.generate(request, signal)) {
          made++
          yield event
        }
      },
    }
    const { url, load } = await startTestServer({ models: [generator] })
    const socket = connect(Number(new URL(url).port), '127.0.0.1')
    const streaming = JSON.stringify({ model, messages, stream: true })
    socket.write(
      `POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n` +
        `content-length: ${streaming.length}\r\n\r\n${streaming}`,
    )
    socket.once('data', () => socket.pause())
    await until(() => load().active === 1)
    // Sixteen megabytes could be sent; the socket's buffers take some of them and then the generator rests.
    let before = -1
    while (made !== before) {
      before = made
      await new Promise((resolve) => setTimeout(resolve, 150))
    }
    expect(load().active).toBe(1)
    expect(made).toBeLessThan(4000)
    socket.destroy()
    await until(() => load().active === 0 && script.active === 0)
  })
})

describe('stopping', () => {
  it('lets answers end, refuses new ones, and then closes', async () => {
    const generator = scriptedGenerator(() => words(10, 20))
    const server = await startTestServer({ models: [generator] })
    const running = server.client.chat.completions.create({ model, messages })
    await until(() => server.load().active === 1)
    const closing = server.close()
    expect((await running).choices[0].message.content).toBe(words(10).pieces.join(''))
    await closing
    await expect(post(server.url)).rejects.toThrow()
    expect(server.log.at(-1)).toEqual({ event: 'stopped' })
  })

  it('says so to clients whose answers take longer than the grace', async () => {
    const generator = scriptedGenerator(() => words(1000, 5))
    const server = await startTestServer({ models: [generator], limits: { graceMs: 50, concurrency: 1 } })
    const stream = await server.client.chat.completions.create({ model, messages, stream: true })
    const waiting = server.client.chat.completions.create({ model, messages })
    const waited = expect(waiting).rejects.toMatchObject({ status: 503, code: 'stopping' })
    await until(() => server.load().queued === 1)
    const closing = server.close()
    const reading = (async () => {
      for await (const _ of stream);
    })()
    await expect(reading).rejects.toThrow('The server is stopping.')
    await waited
    await closing
    expect(generator.active).toBe(0)
  })

  it('closes at once when asked twice', async () => {
    const generator = scriptedGenerator(() => words(1000, 5))
    const server = await startTestServer({ models: [generator], limits: { graceMs: 60_000 } })
    const running = server.client.chat.completions.create({ model, messages })
    const failed = expect(running).rejects.toThrow()
    await until(() => server.load().active === 1)
    await Promise.all([server.close(), server.close()])
    await failed
  })
})

describe('access', () => {
  const apiKeys = ['a-long-enough-key', 'another-good-key-1']

  it('needs an API key for every address but loopback ones', () => {
    const models = [scriptedGenerator([])]
    const make = (hostname: string, keys?: string[]) => () =>
      createApp({ models, hostname, ...(keys === undefined ? {} : { apiKeys: keys }) })
    for (const hostname of ['0.0.0.0', '192.168.1.2', '::', 'example.org', '127.example.org']) {
      expect(make(hostname)).toThrow('an API key is needed for any address but 127.0.0.1 and ::1')
      expect(make(hostname, apiKeys)).not.toThrow()
    }
    for (const hostname of ['127.0.0.1', '127.0.1.1', '::1', 'localhost']) expect(make(hostname)).not.toThrow()
    expect(make('0.0.0.0', ['short'])).toThrow('an API key must have at least 16 characters')
    expect(() => createApp({ models: [] })).toThrow('at least one model is needed')
    expect(() => createApp({ models: [models[0], models[0]] })).toThrow('every model needs a name of its own')
  })

  it('takes any of its keys and nothing else', async () => {
    const { url, client } = await startTestServer({ models: [scriptedGenerator(() => words(1))], apiKeys })
    expect((await client.models.list()).data).toHaveLength(1)
    const status = async (authorization?: string): Promise<number> =>
      (await post(url, authorization === undefined ? {} : { headers: { authorization } })).status
    expect(await status(`Bearer ${apiKeys[1]}`)).toBe(200)
    expect(await status()).toBe(401)
    expect(await status('Bearer a-long-enough-keY')).toBe(401)
    expect(await status(`Basic ${apiKeys[0]}`)).toBe(401)
    const other = new OpenAI({ baseURL: `${url}/v1`, apiKey: 'wrong', maxRetries: 0 })
    await expect(other.models.list()).rejects.toThrow(OpenAI.AuthenticationError)
    expect((await fetch(`${url}/health`)).status).toBe(200)
  })

  it('limits the guessing of keys', async () => {
    const { url } = await startTestServer({
      models: [scriptedGenerator([])],
      apiKeys,
      limits: { requestsPerMinute: 2 },
    })
    const statuses = []
    for (let i = 0; i < 4; i++) statuses.push((await post(url)).status)
    expect(statuses).toEqual([401, 401, 429, 429])
  })

  it('does not answer pages of other sites, nor under a foreign name', async () => {
    const { url } = await startTestServer({ models: [scriptedGenerator([])] })
    const { host } = new URL(url)
    expect(await rawRequest(url, { host })).toBe(200)
    expect(await rawRequest(url, { host, origin: url })).toBe(200)
    expect(await rawRequest(url, { host: 'rebound.example.org' })).toBe(403)
    expect(await rawRequest(url, { host, origin: 'https://evil.example.org' })).toBe(403)
    expect(await rawRequest(url, { host, origin: 'null' })).toBe(403)
    expect(await rawRequest(url, { host, 'sec-fetch-site': 'cross-site' })).toBe(403)
    const response = await post(url, { headers: { 'content-type': 'text/plain' } })
    expect(response.status).toBe(415)
    expect(response.headers.get('access-control-allow-origin')).toBeNull()
    expect(response.headers.get('x-content-type-options')).toBe('nosniff')
  })
})

describe('what is sent', () => {
  const limited = (limits: Partial<ServerLimits> = {}) =>
    startTestServer({ models: [scriptedGenerator(() => words(1))], limits })

  it('may only be so large', async () => {
    const { url } = await limited({ bodyBytes: 200 })
    expect((await post(url)).status).toBe(200)
    const large = JSON.stringify({ model, messages: [{ role: 'user', content: 'x'.repeat(500) }] })
    expect((await post(url, { body: large })).status).toBe(413)
    const chunked = (text: string, times: number) => {
      let left = times
      const chunks = new ReadableStream<Uint8Array>({
        pull: (controller) => (left-- > 0 ? controller.enqueue(Buffer.from(text)) : controller.close()),
      })
      return post(url, { body: chunks, duplex: 'half' })
    }
    expect((await chunked(body, 1)).status).toBe(200)
    const endless = await chunked('x'.repeat(150), 1e6).catch((error: unknown) => error)
    // The server answers and then stops reading; a client that still sends may see the answer or a closed connection.
    expect(endless instanceof Response ? endless.status : 413).toBe(413)
  })

  it.each([
    ['{"model": "private', 'The body must be JSON.'],
    ['', 'The body must be JSON.'],
    ['[]', 'expected object'],
    [`{"model":${'['.repeat(5000)}`, 'nested at most 100 levels'],
    [`{"model":"m","messages":[{"role":"user","content":"a"}],"response_format":{"type":"json_schema","json_schema":{"name":"x","schema":${'{"a":'.repeat(3000)}1${'}'.repeat(3000)}}}}`, 'nested at most'], // prettier-ignore
    ['{"__proto__":{"model":"scripted"}}', 'model:'],
  ])('is refused with a reason when it is not a request: %#', async (text, reason) => {
    const { url } = await limited()
    const response = await post(url, { body: text })
    expect(response.status).toBe(400)
    const { error } = (await response.json()) as { error: { message: string } }
    expect(error.message).toContain(reason)
    expect(error.message).not.toContain('private')
  })

  it('never reaches the log, whatever happens to it', async () => {
    const script = [words(2), { pieces: ['private', ' reply'], error: new Error('private failure') }]
    const { url, log } = await startTestServer({
      models: [scriptedGenerator(script)],
      apiKeys: ['private-private-key'],
    })
    const headers = { authorization: 'Bearer private-private-key' }
    await post(url, { headers })
    await post(url, { headers })
    await post(url, { headers, body: '{"model":"private"' })
    await post(url, { headers, path: '/v1/models/private' })
    await post(url, { headers, path: '/private?private=1' })
    await until(() => log.filter((r) => r.event === 'request').length === 5)
    expect(JSON.stringify(log)).not.toContain('private')
    expect(log.find((r) => r.event === 'request')).toMatchObject({
      method: 'POST',
      route: '/v1/chat/completions',
      status: 200,
      model: 'scripted',
      promptTokens: 3,
      completionTokens: 2,
    })
  })

  it('finds nothing at other places and methods', async () => {
    const { url } = await limited()
    expect((await fetch(`${url}/v1/chat/completions`)).status).toBe(405)
    const missing = await fetch(`${url}/v1/embeddings`, { method: 'POST' })
    expect(missing.status).toBe(404)
    expect(await missing.json()).toMatchObject({ error: { type: 'not_found_error' } })
    expect(missing.headers.get('x-request-id')).toMatch(/^[0-9a-f-]{36}$/)
  })
})

describe('serve', () => {
  it('says when its address is taken', async () => {
    const { url } = await startTestServer({ models: [scriptedGenerator([])] })
    const port = Number(new URL(url).port)
    await expect(serve({ models: [scriptedGenerator([])], port })).rejects.toMatchObject({
      code: 'MIRASTRAL_INFER_SERVER',
      exitCode: 2,
    })
  })

  it('tells its health', async () => {
    const { url } = await startTestServer({ models: [scriptedGenerator([])] })
    expect(await (await fetch(`${url}/health`)).json()).toEqual({ status: 'ok', active: 0, queued: 0 })
  })
})
