import { spawn } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import { mkdtemp, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import OpenAI from 'openai'
import { afterEach, describe, expect, it } from 'vitest'
import { smallModel } from './support/small-model.js'

const cli = fileURLToPath(new URL('../dist/mirastral-cli.js', import.meta.url))
const support = (name: string): string => fileURLToPath(new URL(`./support/${name}`, import.meta.url))
const echo = support('echo-generator.mjs')

interface Run {
  readonly child: ChildProcess
  readonly text: { out: string; err: string }
  readonly ended: Promise<number | null>
  /** Waits for text on the standard output. */
  readonly says: (pattern: RegExp) => Promise<RegExpExecArray>
}

const running = new Set<ChildProcess>()
afterEach(() => running.forEach((child) => child.kill('SIGKILL')))

function mirastral(args: string[], env: Record<string, string> = {}): Run {
  const child = spawn(process.execPath, [cli, ...args], { env: { PATH: process.env.PATH, ...env } })
  running.add(child)
  const text = { out: '', err: '' }
  child.stdout.on('data', (data: Buffer) => (text.out += data.toString()))
  child.stderr.on('data', (data: Buffer) => (text.err += data.toString()))
  const ended = new Promise<number | null>((resolve) =>
    child.on('close', (code) => {
      running.delete(child)
      resolve(code)
    }),
  )
  const says = async (pattern: RegExp): Promise<RegExpExecArray> => {
    for (let waited = 0; waited < 20_000; waited += 20) {
      const found = pattern.exec(text.out)
      if (found !== null) return found
      if (child.exitCode !== null) break
      await new Promise((resolve) => setTimeout(resolve, 20))
    }
    throw new Error(`did not say ${pattern.source}: ${text.out}${text.err}`)
  }
  return { child, text, ended, says }
}

async function serveEcho(args: string[] = [], env: Record<string, string> = {}) {
  const run = mirastral(['serve', '--generator', echo, '--port', '0', ...args], env)
  const [, url] = await run.says(/(http:\/\/[^/]+)\/v1/)
  const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: env.MIRASTRAL_API_KEY ?? 'none', maxRetries: 0 })
  return { ...run, url, client }
}

/** The folders of a small random model and of an adapter for it. */
async function modelWithAdapter(): Promise<{ model: string; adapter: string }> {
  const small = await smallModel()
  return { model: small.folder, adapter: await small.adapter('adapter') }
}

describe('mirastral serve', () => {
  it('serves the API and the page, and stops when it is asked to', async () => {
    const { client, url, child, ended, text } = await serveEcho(['--model-id', 'mine', '--title', 'Calm'])
    const messages = [{ role: 'user' as const, content: 'private hello there' }]
    const { choices } = await client.chat.completions.create({ model: 'mine', messages })
    expect(choices[0].message.content).toBe('private hello there')
    const page = await fetch(`${url}/`)
    expect(page.headers.get('content-security-policy')).toContain("default-src 'none'")
    expect((await fetch(`${url}/page/main.js`)).status).toBe(200)
    expect(await (await fetch(`${url}/api/session`)).json()).toMatchObject({ title: 'Calm', hasProfile: false })
    child.kill('SIGTERM')
    expect(await ended).toBe(0)
    expect(text.err).not.toContain('private')
    expect(text.err).toContain('"route":"/v1/chat/completions"')
  })

  it('lets an answer end at the first signal, and stops at the second', async () => {
    const messages = [{ role: 'user' as const, content: 'slow slow slow' }]
    const first = await serveEcho(['--no-guard'])
    const answer = first.client.chat.completions.create({ model: 'echo', messages })
    await new Promise((resolve) => setTimeout(resolve, 200))
    first.child.kill('SIGINT')
    expect((await answer).choices[0].message.content).toBe('slow slow slow')
    expect(await first.ended).toBe(0)

    const second = await serveEcho(['--no-guard'])
    const cut = second.client.chat.completions.create({
      model: 'echo',
      messages: [{ role: 'user', content: ' slow'.repeat(200) }],
    })
    const failed = expect(cut).rejects.toThrow()
    await new Promise((resolve) => setTimeout(resolve, 200))
    second.child.kill('SIGINT')
    await new Promise((resolve) => setTimeout(resolve, 100))
    second.child.kill('SIGINT')
    await failed
    expect(await second.ended).toBe(0)
  })

  it('puts a guard between the model and everybody who asks', async () => {
    const { client, url } = await serveEcho(['--guard', support('polite-guard.mjs')])
    const ask = async (content: string) => {
      const { choices } = await client.chat.completions.create({ model: 'echo', messages: [{ role: 'user', content }] })
      return [choices[0].message.content, choices[0].finish_reason]
    }
    expect(await ask('hello')).toEqual(['hello', 'stop'])
    expect(await ask('help')).toEqual(['Please call 112.', 'stop'])
    expect(await ask('something rude here')).toEqual(['something ...', 'content_filter'])
    const body = JSON.stringify({ turns: [{ role: 'user', content: 'help' }] })
    const headers = { 'content-type': 'application/json' }
    const page = await fetch(`${url}/api/chat`, { method: 'POST', headers, body })
    expect(await page.text()).toContain('Please call 112.')
  })

  it('has the safety guard on by default, and says so plainly when it is off', async () => {
    const crisis = {
      model: 'echo',
      messages: [{ role: 'user' as const, content: 'I am going to kill myself tonight.' }],
    }
    const guarded = await serveEcho(['--guard-country', 'US'])
    const answer = await guarded.client.chat.completions.create(crisis)
    expect(answer.choices[0].message.content).toContain('988')
    const body = JSON.stringify({ turns: crisis.messages })
    const headers = { 'content-type': 'application/json' }
    const page = await (await fetch(`${guarded.url}/api/chat`, { method: 'POST', headers, body })).text()
    expect(page).toContain('"type":"notice"')
    expect(page).toContain('988')
    expect(guarded.text.err).not.toMatch(/WARNING|kill/)
    expect(await (await fetch(`${guarded.url}/api/session`)).text()).toContain('988 Suicide & Crisis Lifeline')

    const open = await serveEcho(['--no-guard'])
    const echoed = await open.client.chat.completions.create(crisis)
    expect(echoed.choices[0].message.content).toBe('I am going to kill myself tonight.')
    expect(open.text.err).toContain('WARNING: no safety guard is in the path')
  })

  it('keeps a profile, encrypted, over a restart', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'serve-'))
    const args = ['--profile', join(folder, 'profile.json')]
    const env = { MIRASTRAL_PROFILE_PASSPHRASE: 'correct horse', MIRASTRAL_API_KEY: 'a-long-enough-key' }
    const headers = { authorization: 'Bearer a-long-enough-key', 'content-type': 'application/json' }
    const first = await serveEcho(args, env)
    const entry = JSON.stringify({ kind: 'goal', text: 'sleep', agreed: true })
    expect((await fetch(`${first.url}/api/profile`, { method: 'POST', headers, body: entry })).status).toBe(201)
    expect((await fetch(`${first.url}/api/profile`)).status).toBe(401)
    first.child.kill('SIGTERM')
    await first.ended
    const second = await serveEcho(args, env)
    expect(await (await fetch(`${second.url}/api/profile`, { headers })).json()).toMatchObject({
      entries: [{ text: 'sleep' }],
    })
  })

  it('serves a model with an adapter: text, a schema and a forced tool call, each repeatable', async () => {
    const { model, adapter } = await modelWithAdapter()
    const run = mirastral([
      'serve',
      '--model',
      model,
      '--adapter',
      adapter,
      '--port',
      '0',
      '--page',
      'off',
      '--no-guard',
    ])
    const [, url] = await run.says(/(http:\/\/[^/]+)\/v1/)
    const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: 'none', maxRetries: 0 })
    const [{ id }] = (await client.models.list()).data
    expect(id).toBe('small')
    const common = {
      model: id,
      messages: [{ role: 'user' as const, content: 'How are you? 🙂' }],
      seed: 3,
      max_tokens: 40,
    }
    const first = await client.chat.completions.create(common)
    const stream = client.chat.completions.stream({ ...common, stream_options: { include_usage: true } })
    expect((await stream.finalChatCompletion()).choices[0].message.content).toBe(first.choices[0].message.content)
    expect(first.usage?.completion_tokens).toBeGreaterThan(0)

    const schema = { type: 'object', properties: { n: { type: 'integer', minimum: 1, maximum: 9 } }, required: ['n'] }
    const json = await client.chat.completions.create({
      ...common,
      response_format: { type: 'json_schema', json_schema: { name: 'n', schema } },
    })
    const { n } = JSON.parse(json.choices[0].message.content ?? '') as { n: number }
    expect(n).toBeGreaterThanOrEqual(1)
    expect(n).toBeLessThanOrEqual(9)
    const called = await client.chat.completions.create({
      ...common,
      tools: [{ type: 'function', function: { name: 'pick', parameters: schema } }],
      tool_choice: 'required',
      parallel_tool_calls: false,
    })
    const [call] = called.choices[0].message.tool_calls ?? []
    expect(call.type === 'function' ? call.function.name : '').toBe('pick')
    const long = { ...common, messages: [{ role: 'user' as const, content: 'word '.repeat(600) }] }
    await expect(client.chat.completions.create(long)).rejects.toMatchObject({ code: 'context_length_exceeded' })
    run.child.kill('SIGTERM')
    expect(await run.ended).toBe(0)
  })

  it('serves further adapters by name, with rounded weights', async () => {
    const { model, adapter } = await modelWithAdapter()
    const options = { model, adapters: `warm=${adapter}`, precision: 'int8', port: '0', concurrency: '2' }
    const run = mirastral(['serve', '--no-guard', ...Object.entries(options).flatMap(([k, v]) => [`--${k}`, v])])
    const [, url] = await run.says(/(http:\/\/[^/]+)\/v1/)
    const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: 'none', maxRetries: 0 })
    const ids = (await client.models.list()).data.map(({ id }) => id)
    expect(ids).toEqual(['small', 'small:warm'])
    const messages = [{ role: 'user' as const, content: 'Hello' }]
    const answers = await Promise.all(
      ids.map((id) => client.chat.completions.create({ model: id, messages, max_tokens: 8, temperature: 0 })),
    )
    expect(answers.map((answer) => answer.model)).toEqual(ids)
    run.child.kill('SIGTERM')
    expect(await run.ended).toBe(0)
  })

  it('ends with one line and exit code 2 when the command line is wrong', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'serve-'))
    const notOne = join(folder, 'module.mjs')
    await writeFile(notOne, 'export default 5')
    const emptyPolicy = join(folder, 'policy.json')
    await writeFile(emptyPolicy, '{}')
    const cases: [string[], RegExp][] = [
      [[], /^error: mirastral: there is no command \(none\)\nusage:/],
      [['serve'], /^error: mirastral serve: --model: give either a model or a generator; --help lists the options\n$/],
      [['serve', '--generator', join(folder, 'gone.mjs')], /^error: mirastral serve: --generator: .* cannot be loaded/],
      [['serve', '--generator', notOne], /has no default export that is a TextGenerator or makes one\n$/],
      [
        ['serve', '--generator', echo, '--guard', echo],
        /has no default export that is a ConversationGuard or makes one\n$/,
      ],
      [
        ['serve', '--generator', echo, '--guard-policy', 'gone'],
        /--guard-policy: gone must be a JSON file that can be/,
      ],
      [['serve', '--generator', echo, '--guard-policy', emptyPolicy], /^error: guard: policy/],
      [['serve', '--generator', echo, '--host', '0.0.0.0'], /^error: serve: an API key is needed for any address but/],
      [['serve', '--generator', echo, '--profile', 'p'], /set the variable MIRASTRAL_PROFILE_PASSPHRASE/],
      [['serve', '--generator', echo, '--system-prompt', 'gone'], /--system-prompt: cannot read gone \(ENOENT\)/],
      [['serve', '--model', join(folder, 'gone')], /^error: model: must be a folder that exists/],
    ]
    await Promise.all(
      cases.map(async ([args, message]) => {
        const { ended, text } = mirastral(args)
        expect(await ended).toBe(2)
        expect(text.err).toMatch(message)
        expect(text.out).toBe('')
      }),
    )
  })

  it('explains itself', async () => {
    const { ended, text } = mirastral(['serve', '--help'])
    expect(await ended).toBe(0)
    expect(text.out).toContain('--api-key-file FILE')
  })
})
