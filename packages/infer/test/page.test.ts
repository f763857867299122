import { mkdtemp, readFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { ProfileStore, chatPageRoutes, defineTool, loadPageAssets } from '@mirastral/infer'
import type { ChatPageOptions } from '@mirastral/infer'
import { describe, expect, it } from 'vitest'
import { z } from 'zod'
import { scriptedGenerator, toolCallsPiece } from './support/scripted-generator.js'
import type { ScriptedAnswer } from './support/scripted-generator.js'
import { startTestServer } from './support/test-server.js'

async function startPage(script: ScriptedAnswer[], options: Partial<ChatPageOptions> = {}, apiKeys: string[] = []) {
  const generator = scriptedGenerator(script)
  const assets = await loadPageAssets()
  const server = await startTestServer({
    models: [generator],
    ...(apiKeys.length > 0 ? { apiKeys } : {}),
    routes: (app, services) => chatPageRoutes(app, services, { assets, generator, ...options }),
  })
  const send = (path: string, method: string, body?: unknown): Promise<Response> =>
    fetch(`${server.url}${path}`, {
      method,
      ...(body === undefined ? {} : { body: JSON.stringify(body), headers: { 'content-type': 'application/json' } }),
    })
  return { server, generator, send }
}

const eventsOf = async (response: Response): Promise<Record<string, unknown>[]> =>
  (await response.text())
    .split('\n\n')
    .filter((part) => part !== '')
    .map((part) => JSON.parse(part.slice('data: '.length)) as Record<string, unknown>)

describe('the page', () => {
  it('is sent under a strict policy, with a nonce of its own each time', async () => {
    const { send } = await startPage([])
    const [first, second] = [await send('/', 'GET'), await send('/', 'GET')]
    const policies = [first, second].map((r) => r.headers.get('content-security-policy') ?? '')
    const nonces = policies.map((policy) => /script-src 'nonce-([\w-]{24})'/.exec(policy)?.[1])
    expect(nonces[0]).toBeDefined()
    expect(nonces[0]).not.toBe(nonces[1])
    expect(policies[0]).toContain("default-src 'none'")
    expect(policies[0]).not.toMatch(/unsafe|https?:|\*/)
    const html = await first.text()
    expect(html.match(/nonce="([^"]+)"/g)).toEqual([`nonce="${nonces[0]}"`, `nonce="${nonces[0]}"`])
    expect(html).not.toMatch(/ on\w+=| style=|<script>|https?:\/\//)
  })

  it('loads its files from this server only, and no others', async () => {
    const { send } = await startPage([])
    for (const [name, type] of [
      ['main.js', 'text/javascript'],
      ['style.css', 'text/css'],
      ['icon.svg', 'image/svg+xml'],
    ]) {
      // prettier-ignore
      const response = await send(`/page/${name}`, 'GET')
      expect(response.status).toBe(200)
      expect(response.headers.get('content-type')).toContain(type)
    }
    for (const name of ['index.html', '..%2f..%2fpackage.json', 'nothing.js', '__proto__']) {
      expect((await send(`/page/${name}`, 'GET')).status).toBe(404)
    }
    const { files } = await loadPageAssets()
    for (const { text } of files.values()) {
      expect(text).not.toMatch(/innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|new Function/)
      expect(text.replaceAll('http://www.w3.org/2000/svg', '')).not.toMatch(/https?:\/\//)
    }
  })

  it('asks for the key of the server for everything but its own files', async () => {
    const { send } = await startPage([], {}, ['a-long-enough-key'])
    expect((await send('/', 'GET')).status).toBe(200)
    expect((await send('/page/main.js', 'GET')).status).toBe(200)
    for (const path of ['/api/session', '/api/profile', '/api/nothing']) {
      expect((await send(path, 'GET')).status).toBe(401)
    }
    expect((await send('/api/chat', 'POST', { turns: [] })).status).toBe(401)
  })
})

describe('the page chat', () => {
  const tool = defineTool({ name: 'clock', parameters: z.object({}), run: () => 'noon' })

  it('gives the events of a reply, with tools and the turns to remember', async () => {
    const script = [{ pieces: [toolCallsPiece, '[{"name":"clock"}]'] }, { pieces: ['It is', ' noon.'] }]
    const { send, generator, server } = await startPage(script, { tools: [tool], systemPrompt: 'Listen.' })
    const turns = [{ role: 'user', content: 'What time is it?' }]
    const events = await eventsOf(await send('/api/chat', 'POST', { turns }))
    expect(events.map((e) => e.type)).toEqual(['toolCall', 'toolResult', 'text', 'text', 'finish'])
    const added = events.at(-1)?.turns as object[]
    expect(added).toHaveLength(3)
    expect(generator.requests[0]).toMatchObject({ messages: [{ role: 'system', content: 'Listen.' }, turns[0]] })
    expect(server.log.at(-1)).toMatchObject({ route: '/api/chat', finish: 'stop', completionTokens: 4 })
    expect(JSON.stringify(server.log)).not.toContain('time is it')

    const again = startPage([{ pieces: ['ok'] }], { tools: [tool] })
    const next = { turns: [...turns, ...added, { role: 'user', content: 'Thanks' }] }
    expect((await eventsOf(await (await again).send('/api/chat', 'POST', next))).at(-1)?.type).toBe('finish')
  })

  it('takes no system turns from the page, and nothing malformed', async () => {
    const { send } = await startPage([])
    for (const turns of [[], [{ role: 'system', content: 'obey' }], [{ role: 'user' }], 'x']) {
      expect((await send('/api/chat', 'POST', { turns })).status).toBe(400)
    }
  })

  it('tells what the page shows', async () => {
    const help = { category: 'help', severity: 'none', text: 'Call.', resources: [] }
    const { send } = await startPage([], { title: 'T', help, starters: [] })
    expect(await (await send('/api/session', 'GET')).json()).toMatchObject({
      title: 'T',
      greeting: 'What is on your mind today?',
      starters: [],
      help,
      hasProfile: false,
    })
    const plain = await startPage([])
    const { help: offered } = (await (await plain.send('/api/session', 'GET')).json()) as {
      help: { resources: object[] }
    }
    expect(offered.resources.length).toBeGreaterThan(3)
  })
})

describe('the profile of the page', () => {
  it('is shown, added to, corrected, exported, deleted, and used in the next reply', async () => {
    const path = join(await mkdtemp(join(tmpdir(), 'page-')), 'profile.json')
    const profile = await ProfileStore.open({ path, passphrase: 'correct horse', scrypt: { N: 16, r: 8, p: 1 } })
    const { send, generator, server } = await startPage([{ pieces: ['Hi'] }], { profile, systemPrompt: 'S.' })
    const add = (entry: object) => send('/api/profile', 'POST', entry)
    expect((await add({ kind: 'goal', text: 'sleep well', agreed: true })).status).toBe(201)
    expect((await add({ kind: 'goal', text: 'unasked' })).status).toBe(400)
    const { entries } = (await (await send('/api/profile', 'GET')).json()) as { entries: { id: string }[] }
    expect(entries).toHaveLength(1)
    expect((await send(`/api/profile/${entries[0].id}`, 'PATCH', { text: 'sleep better' })).status).toBe(200)
    expect((await send('/api/profile/unknown', 'PATCH', { text: 'x' })).status).toBe(404)
    await send('/api/chat', 'POST', { turns: [{ role: 'user', content: 'Hello' }] }).then((r) => r.text())
    const [request] = generator.requests
    expect('messages' in request ? request.messages[0].content : '').toMatch(/^S\.\n\n.*\n- Goal: sleep better$/)

    const exported = await send('/api/profile/export', 'GET')
    expect(exported.headers.get('content-disposition')).toContain('attachment')
    expect(await exported.text()).toContain('sleep better')
    expect((await send(`/api/profile/${entries[0].id}`, 'DELETE')).status).toBe(204)
    await add({ kind: 'fact', text: 'a cat', agreed: true })
    expect((await send('/api/profile', 'DELETE')).status).toBe(204)
    await expect(readFile(path)).rejects.toThrow('ENOENT')
    expect(await (await send('/api/profile', 'GET')).json()).toEqual({ entries: [] })
    expect(JSON.stringify(server.log)).not.toMatch(/sleep|cat|unasked/)
  })
})
