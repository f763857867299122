import { mkdtemp, readFile, readdir, readlink, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { DownloadProgress, HubOptions } from '@mirastral/models'
import { downloadModel, ModelError } from '@mirastral/models'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { HubServer } from './hub-server.js'
import { commit, repoFrom, startHub, token } from './hub-server.js'

const fixtures = fileURLToPath(new URL('../../../fixtures/models/', import.meta.url))
const repo = 'founders/tiny'
let hub: HubServer
let root: string
let options: HubOptions

beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'mirastral-hub-'))
  const served = await repoFrom(join(fixtures, 'mistral-window'), {
    'tokenizer.json': '{"model":{}}',
    'tokenizer_config.json': '{}',
    'consolidated.safetensors': 'never downloaded',
    'pytorch_model.bin': 'never downloaded',
    'README.md': '# tiny',
  })
  hub = await startHub({ [repo]: served })
  options = { endpoint: hub.endpoint, cacheDir: join(root, 'hub'), token, retryDelay: 1, offline: false }
})

afterEach(async () => {
  await hub.close()
  await rm(root, { recursive: true })
})

async function failure(promise: Promise<unknown>): Promise<ModelError> {
  const error: unknown = await promise.then(
    () => new Error('nothing was thrown'),
    (thrown: unknown) => thrown,
  )
  if (error instanceof ModelError) return error
  throw error
}

async function expectSame(folder: string): Promise<void> {
  for (const name of await readdir(folder)) {
    const served = hub.repos.get(repo)?.files.get(name)
    expect((await readFile(join(folder, name))).equals(served ?? Buffer.alloc(0))).toBe(true)
  }
}

const cacheFolder = (): string => join(root, 'hub', 'models--founders--tiny')
const sent = (): string[] => hub.requests.filter((line) => line.includes('/resolve/'))

describe('downloadModel', () => {
  it('fetches the files of a model, and nothing else, into the cache layout that Python shares', async () => {
    const snapshot = await downloadModel(repo, 'main', options)
    expect(snapshot).toEqual({ repo, commit, folder: join(cacheFolder(), 'snapshots', commit) })
    expect((await readdir(snapshot.folder)).sort()).toEqual([
      'config.json',
      'model-00001-of-00004.safetensors',
      'model-00002-of-00004.safetensors',
      'model-00003-of-00004.safetensors',
      'model-00004-of-00004.safetensors',
      'model.safetensors.index.json',
      'tokenizer.json',
      'tokenizer_config.json',
    ])
    await expectSame(snapshot.folder)
    expect(await readFile(join(cacheFolder(), 'refs', 'main'), 'utf8')).toBe(commit)
    expect(await readlink(join(snapshot.folder, 'config.json'))).toMatch(/^\.\.\/\.\.\/blobs\/[0-9a-f]{40}$/)
    const shard = await readlink(join(snapshot.folder, 'model-00001-of-00004.safetensors'))
    expect(shard).toMatch(/^\.\.\/\.\.\/blobs\/[0-9a-f]{64}$/)
    expect((await readdir(join(cacheFolder(), 'blobs'))).filter((name) => name.endsWith('.incomplete'))).toEqual([])
  })

  it('asks only for the commit when all is cached, and for nothing when the commit is named', async () => {
    await downloadModel(repo, 'main', options)
    hub.requests.length = 0
    await downloadModel(repo, 'v1', options)
    expect(hub.requests).toEqual([`GET /api/models/${repo}/revision/v1`])
    hub.requests.length = 0
    await downloadModel(repo, commit, options)
    expect(hub.requests).toEqual([])
  })

  it('takes up a download where the connection broke, within one call and in the next', async () => {
    const shard = 'model-00002-of-00004.safetensors'
    let breaks = 2
    hub.fault = (path) => (path === shard && breaks-- > 0 ? { breakAfter: 1000 } : undefined)
    const { folder } = await downloadModel(repo, 'main', options)
    await expectSame(folder)
    expect(sent().filter((line) => line.includes(shard))).toEqual([
      `GET /${repo}/resolve/${commit}/${shard}`,
      `GET /${repo}/resolve/${commit}/${shard} bytes=1000-`,
      `GET /${repo}/resolve/${commit}/${shard} bytes=2000-`,
    ])
  })

  it('keeps what arrived before it gave up', async () => {
    const shard = 'model-00003-of-00004.safetensors'
    hub.fault = (path) => (path === shard ? { breakAfter: 10 } : undefined)
    const error = await failure(downloadModel(repo, 'main', options))
    expect(error).toMatchObject({ kind: 'network', retryable: true, exitCode: 1 })
    hub.fault = undefined
    hub.requests.length = 0
    const { folder } = await downloadModel(repo, 'main', options)
    await expectSame(folder)
    expect(sent()).toContain(`GET /${repo}/resolve/${commit}/${shard} bytes=50-`)
  })

  it('starts a file anew when the bytes on disk turn out to be damaged', async () => {
    const shard = 'model-00001-of-00004.safetensors'
    let bad = 1
    const size = hub.repos.get(repo)?.files.get(shard)?.length ?? 0
    hub.fault = (path) => (path === shard && bad-- > 0 ? { instead: Buffer.alloc(size, 7) } : undefined)
    const { folder } = await downloadModel(repo, 'main', options)
    await expectSame(folder)
    expect(sent().filter((line) => line.includes(shard))).toHaveLength(2)
  })

  it('retries when the Hub is busy', async () => {
    let busy = 3
    hub.fault = (path) => (path === 'tokenizer.json' && busy-- > 0 ? { status: 503 } : undefined)
    await expectSame((await downloadModel(repo, 'main', options)).folder)
  })

  it('uses the cache when there is no connection, or when told to stay offline', async () => {
    const { folder } = await downloadModel(repo, 'main', options)
    await hub.close()
    expect((await downloadModel(repo, 'main', options)).folder).toBe(folder)
    expect((await downloadModel(repo, 'main', { ...options, offline: true })).folder).toBe(folder)
    const other = await failure(downloadModel('founders/other', 'main', options))
    expect(other.kind).toBe('network')
    expect(other.message).toMatch(/^founders\/other: cannot reach http:\/\/127.0.0.1:\d+ \(.+\); check the connection/)
    const offline = await failure(downloadModel('founders/other', 'main', { ...options, offline: true }))
    expect(offline.message).toBe(
      `founders/other: revision main is not in ${join(root, 'hub')}, and HF_HUB_OFFLINE forbids to download it`,
    )
    expect(offline).toMatchObject({ kind: 'repository', exitCode: 2 })
  })

  it('does not take a half-downloaded snapshot for a model', async () => {
    const { folder } = await downloadModel(repo, 'main', options)
    await rm(join(folder, 'model-00004-of-00004.safetensors'))
    const error = await failure(downloadModel(repo, 'main', { ...options, offline: true }))
    expect(error.message).toContain('revision main is not in')
    await expectSame((await downloadModel(repo, 'main', options)).folder)
  })

  it('explains missing, private and gated repositories, and revisions that do not exist', async () => {
    const message = async (name: string, revision: string, extra: HubOptions) =>
      (await failure(downloadModel(name, revision, { ...options, ...extra }))).message
    const anonymous = { token: undefined }
    const at = hub.endpoint
    expect(await message('founders/none', 'main', {})).toBe(
      `founders/none: there is no such model on ${at}, or this token may not see it`,
    )
    expect(await message(repo, 'main', { token: 'hf_expired' })).toBe(
      `${repo}: the Hub did not accept the token; check HF_TOKEN or run \`hf auth login\` again`,
    )
    expect(await message(repo, 'v9', {})).toBe(`${repo}: has no revision v9; see ${at}/${repo}/commits/main`)
    const files = new Map([['config.json', Buffer.from('{}')]])
    hub.repos.set('founders/secret', { commit, files, access: 'private' })
    hub.repos.set('founders/gated', { commit, files, access: 'gated' })
    process.env.HF_TOKEN_PATH = join(root, 'no-token')
    try {
      expect(await message('founders/secret', 'main', anonymous)).toBe(
        `founders/secret: there is no such model on ${at}, or it is private: set HF_TOKEN or run \`hf auth login\``,
      )
      expect(await message('founders/gated', 'main', anonymous)).toBe(
        `founders/gated: is gated: its authors give access on request; ask for it at ${at}/founders/gated, then set HF_TOKEN or run \`hf auth login\``,
      )
    } finally {
      delete process.env.HF_TOKEN_PATH
    }
    expect(await message('founders/gated', 'main', {})).toBe(
      `founders/gated: is gated: the account of this token has not been given access; ask for it at ${at}/founders/gated`,
    )
  })

  it('says when a repository has no safetensors weights, or is no model', async () => {
    const config = Buffer.from('{}')
    const bin = new Map([
      ['config.json', config],
      ['pytorch_model.bin', config],
    ])
    hub.repos.set('founders/bin', { commit, files: bin })
    hub.repos.set('founders/data', { commit, files: new Map([['data.csv', config]]) })
    expect((await failure(downloadModel('founders/bin', 'main', options))).message).toBe(
      'founders/bin: has pytorch_model.bin, not safetensors; choose a repository with safetensors weights',
    )
    expect((await failure(downloadModel('founders/data', 'main', options))).message).toBe(
      'founders/data: has no config.json; it is not a Transformers model',
    )
  })

  it('refuses names that are not one, and tokens that are not one, without showing them', async () => {
    expect((await failure(downloadModel('gpt2', 'main', options))).message).toBe(
      'model: must be a folder or owner/name[@revision], got gpt2',
    )
    expect((await failure(downloadModel(repo, '../x', options))).kind).toBe('option')
    const secret = await failure(downloadModel(repo, 'main', { ...options, token: 'my-secret' }))
    expect(secret.message).not.toContain('my-secret')
    expect(secret).toMatchObject({ kind: 'option', exitCode: 2 })
  })

  it('reads the token from the usual file', async () => {
    const files = hub.repos.get(repo)?.files ?? new Map<string, Buffer>()
    hub.repos.set('founders/secret', { commit, files, access: 'private' })
    await writeFile(join(root, 'token'), `${token}\n`)
    process.env.HF_TOKEN_PATH = join(root, 'token')
    try {
      const { folder } = await downloadModel('founders/secret', 'main', { ...options, token: undefined })
      await expectSame(folder)
    } finally {
      delete process.env.HF_TOKEN_PATH
    }
  })

  it('reports progress of the weights that ends at the whole', async () => {
    const seen: DownloadProgress[] = []
    await downloadModel(repo, 'main', { ...options, onProgress: (progress) => seen.push(progress) })
    const last = seen.at(-1)
    expect(last?.receivedBytes).toBe(last?.totalBytes)
    expect(seen.every((p, i) => i === 0 || p.receivedBytes >= seen[i - 1].receivedBytes)).toBe(true)
  })

  it('stops at once when aborted, and keeps what has arrived', async () => {
    const shard = 'model-00001-of-00004.safetensors'
    const stop = new AbortController()
    hub.fault = (path) => {
      if (path === shard) stop.abort(new Error('stop'))
      return undefined
    }
    await expect(downloadModel(repo, 'main', { ...options, signal: stop.signal })).rejects.toThrow('stop')
    hub.fault = undefined
    await expectSame((await downloadModel(repo, 'main', options)).folder)
  })
})
