import { readFileSync } from 'node:fs'
import { appendFile, cp, mkdir, readdir, rename, rm, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { BackgroundPublisher, publishAdapter } from '@mirastral/lora'
import type { PublishOptions, PublishOutcome } from '@mirastral/lora'
import { writeSafetensors } from '@mirastral/safetensors'
import { evidence } from './evidence.js'
import { caught, fixtures, temporaryFolder } from './fixtures.js'
import { startHubServer } from './hub-server.js'
import type { HubServer } from './hub-server.js'

const token = 'hf_for_the_tests_only'
const repo = 'me/helper'
let server: HubServer
let folder: string
let waits: number[]

beforeEach(async () => {
  server = await startHubServer(token)
  folder = join(await temporaryFolder(), 'adapter')
  waits = []
  await cp(join(fixtures, 'llama', 'attention'), folder, { recursive: true })
  await rm(join(folder, 'golden.safetensors'))
  await writeFile(join(folder, 'tokenizer.json'), '{"model": {}}')
})

afterEach(() => server.close())

const options = (more: PublishOptions = {}): PublishOptions => ({
  accessToken: token,
  hubUrl: server.url,
  evidence,
  backOff: {
    wait: (milliseconds) => {
      waits.push(milliseconds)
      return Promise.resolve()
    },
  },
  ...more,
})

const contentOf = (path: string): string => server.head(repo).files.get(path)?.content.toString('utf8') ?? ''

describe('publishing an adapter', () => {
  it('makes a private repository and uploads everything in one commit, checked by hash', async () => {
    const report = await publishAdapter(folder, repo, options({ commitTitle: 'Step 45' }))
    expect(report).toMatchObject({ repo, url: `${server.url}/${repo}`, created: true, leftOut: [], attempts: 1 })
    expect(report.files.map((f) => f.path).sort()).toEqual([
      'README.md',
      'adapter_config.json',
      'adapter_model.safetensors',
      'tokenizer.json',
    ])
    expect(report.files.every((f) => f.uploaded)).toBe(true)
    const made = server.repos.get(repo)
    expect(made?.private).toBe(true)
    expect(made?.commits).toHaveLength(2)
    expect(server.head(repo)).toMatchObject({ title: 'Step 45', oid: report.commit })
    for (const name of ['adapter_config.json', 'adapter_model.safetensors', 'tokenizer.json']) {
      expect(server.head(repo).files.get(name)?.content).toEqual(readFileSync(join(folder, name)))
    }
    expect(server.head(repo).files.get('adapter_model.safetensors')?.lfs).toBe(true)
    expect(contentOf('README.md')).toContain('# A listening helper')
    const paths = server.requests.filter((r) => r.includes('/paths-info/'))
    expect(paths.at(-1)).toContain(report.commit)
  })

  it('a second time changes nothing and makes no commit', async () => {
    await publishAdapter(folder, repo, options())
    const report = await publishAdapter(folder, repo, options())
    expect(report).toMatchObject({ created: false, commit: null })
    expect(report.files.some((f) => f.uploaded)).toBe(false)
    expect(server.repos.get(repo)?.commits).toHaveLength(2)
  })

  it('uploads only what has changed', async () => {
    await publishAdapter(folder, repo, options())
    await appendFile(join(folder, 'tokenizer.json'), '\n')
    const report = await publishAdapter(folder, repo, options())
    expect(report.files.filter((f) => f.uploaded).map((f) => f.path)).toEqual(['tokenizer.json'])
    expect(server.head(repo).files.size).toBe(5)
  })

  it('leaves everything here that is not on the list', async () => {
    const names = [
      'optimizer.safetensors',
      'trainer_state.json',
      'train.jsonl',
      '.env',
      'ledger.jsonl',
      'manifest.json',
      'log.txt',
    ]
    for (const name of names) await writeFile(join(folder, name), 'private')
    await mkdir(join(folder, 'worker1'))
    const report = await publishAdapter(folder, repo, options())
    expect([...report.leftOut].sort()).toEqual([...names, 'worker1'].sort())
    expect([...server.head(repo).files.keys()].filter((p) => names.includes(p) || p.startsWith('worker1'))).toEqual([])
  })

  it.each([
    [
      'adapter_config.json',
      '"r": 4',
      '"revision": "hf_abcdefghijklmnopqrstuvwxyzABCDEF", "r": 4',
      'a Hugging Face token',
    ],
    ['tokenizer.json', '{"model"', '{"note": "-----BEGIN RSA PRIVATE KEY-----", "model"', 'a private key'],
  ])('refuses a secret in %s without repeating it', async (name, before, after, kind) => {
    const text = readFileSync(join(folder, name), 'utf8')
    await writeFile(join(folder, name), text.replace(before, after))
    const error = await caught(() => publishAdapter(folder, repo, options()))
    expect(error).toMatchObject({ code: 'MIRASTRAL_LORA_PUBLISH', exitCode: 2 })
    expect(error.message).toBe(`${join(folder, name)}: seems to hold ${kind}; remove it and try again`)
    expect(server.requests).toEqual([])
  })

  it('refuses links, folders without an adapter, and weights that are not an adapter', async () => {
    const other = await temporaryFolder()
    await symlink(join(folder, 'tokenizer.json'), join(other, 'tokenizer.json'))
    const data = new Float32Array(1)
    const entries = [{ name: 'moments/m/x', dtype: 'F32', shape: [1], data } as const]
    await writeSafetensors(join(other, 'adapter_model.safetensors'), entries, {
      metadata: { format: 'pt', prompt: 'x' },
    })
    const error = await caught(() => publishAdapter(other, repo, options()))
    expect(error.message.split('\n')).toEqual([
      `${other}, 4 problems:`,
      '  - adapter_config.json: is missing; is this an adapter folder?',
      "  - adapter_model.safetensors: holds 1 tensors that are no adapter's",
      '  - adapter_model.safetensors: has 1 metadata entries besides "format"',
      '  - tokenizer.json: must be a regular file, got a link or folder',
    ])
    expect((await caught(() => publishAdapter(join(other, 'none'), repo, options()))).message).toContain(
      'cannot be read',
    )
  })

  it('cuts paths of this machine down to names', async () => {
    const config = readFileSync(join(folder, 'adapter_config.json'), 'utf8')
    await writeFile(join(folder, 'adapter_config.json'), config.replace('owner/llama', '/home/someone/llama'))
    await writeFile(join(folder, 'tokenizer_config.json'), '{"name_or_path": "../models/llama", "x": [1.5, true]}')
    await publishAdapter(folder, repo, options())
    expect(contentOf('adapter_config.json')).toBe(config.replace('owner/llama', 'llama'))
    expect(JSON.parse(contentOf('tokenizer_config.json'))).toEqual({ name_or_path: 'llama', x: [1.5, true] })
  })

  it('publishes the card of the folder where there is no evidence, and nothing without a card', async () => {
    const bare = options()
    delete (bare as { evidence?: unknown }).evidence
    expect((await caught(() => publishAdapter(folder, repo, bare))).message).toContain(
      'has no README.md and there is no evidence',
    )
    await writeFile(join(folder, 'README.md'), '# By hand\n')
    await publishAdapter(folder, repo, bare)
    expect(contentOf('README.md')).toBe('# By hand\n')
  })

  it('refuses a repository that everyone can read, unless that is wanted', async () => {
    await publishAdapter(folder, repo, options({ visibility: 'public' }))
    expect(server.repos.get(repo)?.private).toBe(false)
    const error = await caught(() => publishAdapter(folder, repo, options()))
    expect(error.message).toBe('me/helper: exists and is public; make it private, or publish with visibility "public"')
    expect(await publishAdapter(folder, repo, options({ visibility: 'public' }))).toMatchObject({ commit: null })
  })

  it.each([
    ['a bad name', 'helper', {}, 'repository: must be owner/name, got "helper"'],
    [
      'a bad token',
      repo,
      { accessToken: 'hf_another' },
      'publishing failed: reading me/helper: the access token is not valid (status 401)',
    ],
  ])('with %s fails at once', async (_title, name, more, message) => {
    const error = await caught(() => publishAdapter(folder, name, options(more)))
    expect(error).toMatchObject({ code: 'MIRASTRAL_LORA_PUBLISH', exitCode: 2, message })
    expect(waits).toEqual([])
  })
})

describe('publishing through faults', () => {
  it.each([
    ['the server is busy', 503],
    ['there are too many requests', 429],
    ['the connection breaks', 'drop'],
  ] as const)('tries again, waiting longer each time, when %s', async (_title, fault) => {
    let left = 3
    server.fault = () => (left-- > 0 ? fault : undefined)
    const report = await publishAdapter(folder, repo, options())
    expect(report.attempts).toBe(4)
    expect(waits).toEqual([1000, 2000, 4000])
    expect(server.repos.get(repo)?.commits).toHaveLength(2)
  })

  it('makes one commit even where the answer to it was lost', async () => {
    const losing: typeof fetch = async (input, init) => {
      const response = await fetch(input, init)
      if (response.url.includes('/commit/') && waits.length === 0) throw new TypeError('fetch failed')
      return response
    }
    const report = await publishAdapter(folder, repo, options({ fetch: losing }))
    expect(report).toMatchObject({ attempts: 2, commit: null })
    expect(server.repos.get(repo)?.commits).toHaveLength(2)
  })

  it('notices by hash that the Hub holds something else, and uploads it again', async () => {
    let broken = true
    server.corrupt = (content) => (broken ? Buffer.concat([content, Buffer.from('!')]) : content)
    server.fault = () => {
      if (waits.length > 0) broken = false
      return undefined
    }
    const error = await caught(() =>
      publishAdapter(folder, repo, options({ backOff: { tries: 1, wait: () => Promise.resolve() } })),
    )
    expect(error).toMatchObject({ exitCode: 1 })
    expect(error.message).toContain('the Hub does not hold what was uploaded as adapter_model.safetensors')
  })

  it('gives up after its tries, in one line without addresses', async () => {
    server.fault = (_method, path) => (path.startsWith('/storage/') ? 500 : undefined)
    const error = await caught(() => publishAdapter(folder, repo, options()))
    expect(error.message).toBe('publishing failed: uploading to me/helper: the server refused (status 500)')
    expect(error.exitCode).toBe(1)
    expect(waits).toEqual([1000, 2000, 4000, 8000])
  })

  it('does not try again what cannot succeed', async () => {
    server.fault = (_method, path) => (path.includes('/commit/') ? 403 : undefined)
    const error = await caught(() => publishAdapter(folder, repo, options()))
    expect(error.message).toBe(
      'publishing failed: uploading to me/helper: the access token may not write there (status 403)',
    )
    expect(error.exitCode).toBe(2)
    expect(waits).toEqual([])
  })

  it('ends when asked to', async () => {
    const controller = new AbortController()
    server.onRequest = (_method, path) => {
      if (path.includes('/preupload/')) controller.abort(new Error('no time'))
    }
    const error = await caught(() => publishAdapter(folder, repo, options({ signal: controller.signal })))
    expect(error.message).toContain('publishing failed: uploading to me/helper')
    expect(waits).toEqual([])
  })
})

describe('publishing in the background', () => {
  it('keeps what a folder held when it was handed over, though it is removed at once', async () => {
    const publisher = new BackgroundPublisher(repo, options())
    publisher.enqueue(folder, { commitTitle: 'Step 10' })
    await rm(folder, { recursive: true })
    const outcomes = await publisher.finish(20_000)
    expect(outcomes).toMatchObject([{ folder, status: 'published', report: { created: true } }])
    expect(server.head(repo).title).toBe('Step 10')
    expect(await readdir(join(folder, '..'))).toEqual([])
  })

  it('publishes one at a time and of the waiting only the newest', async () => {
    const told: PublishOutcome[] = []
    const publisher = new BackgroundPublisher(repo, { ...options(), onOutcome: (o) => told.push(o) })
    const folders = [1, 2, 3].map((i) => join(folder, '..', `checkpoint-${i}`))
    for (const [i, next] of folders.entries()) {
      await cp(folder, next, { recursive: true })
      await writeFile(join(next, 'tokenizer.json'), `{"step": ${i + 1}}`)
    }
    let seen = 0
    server.onRequest = (_method, path) => {
      if (!path.includes('/commit/') || seen++ > 0) return
      publisher.enqueue(folders[1])
      publisher.enqueue(folders[2])
    }
    publisher.enqueue(folders[0])
    const outcomes = await publisher.finish(20_000)
    expect(outcomes.map((o) => [o.folder, o.status])).toEqual([
      [folders[1], 'superseded'],
      [folders[0], 'published'],
      [folders[2], 'published'],
    ])
    expect(told).toEqual(outcomes)
    expect(server.repos.get(repo)?.commits).toHaveLength(3)
    expect(contentOf('tokenizer.json')).toBe('{"step": 3}')
  })

  it('never throws: a folder that is gone, a server that is gone, a listener that fails', async () => {
    await server.close()
    const publisher = new BackgroundPublisher(repo, {
      ...options(),
      onOutcome: () => {
        throw new Error('listener')
      },
    })
    publisher.enqueue(join(folder, 'none'))
    publisher.enqueue(folder)
    const outcomes = await publisher.finish(20_000)
    expect(outcomes.map((o) => o.status)).toEqual(['failed', 'failed'])
    expect(await readdir(join(folder, '..'))).toEqual(['adapter'])
  })

  it('gives up when its time is over, and takes nothing more', async () => {
    server.fault = () => 503
    const forever = { tries: 1e9, wait: () => new Promise<void>((go) => setTimeout(go, 1)) }
    const publisher = new BackgroundPublisher(repo, options({ backOff: forever }))
    publisher.enqueue(folder)
    const outcomes = await publisher.finish(50)
    expect(outcomes).toMatchObject([{ status: 'failed' }])
    publisher.enqueue(folder)
    expect(await publisher.finish(50)).toHaveLength(1)
    await rename(folder, `${folder}-moved`)
    expect(await readdir(join(folder, '..'))).toEqual(['adapter-moved'])
  })
})
