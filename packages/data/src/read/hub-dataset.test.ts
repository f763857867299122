import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { createServer } from 'node:http'
import type { IncomingMessage, Server, ServerResponse } from 'node:http'
import { join, relative } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { temporaryFolder } from '../../test/fixtures.js'
import { DataError } from '../errors.js'
import { fetchHubDataset, parseHubReference } from './hub-dataset.js'

const COMMIT = 'a'.repeat(40)
const FILES: Record<string, string> = {
  'README.md': '# data',
  'dataset_infos.json': '{}',
  'data/train-00000-of-00001.jsonl': '{"question": "q", "answer": "a"}\n',
  'data/test-00000-of-00001.jsonl': '{"question": "r", "answer": "b"}\n',
  '../outside.json': '[]',
}

/** As much of the Hub as listing and downloading a dataset takes. */
class FakeHub {
  requests: string[] = []
  down = false
  damage = false
  /** Answers with the place of a file's chunks in Xet's storage instead of its bytes. */
  xet = false
  private readonly server: Server = createServer((request, response) => this.answer(request, response))

  async start(): Promise<string> {
    await new Promise<void>((resolve) => this.server.listen(0, '127.0.0.1', resolve))
    const address = this.server.address()
    return `http://127.0.0.1:${typeof address === 'object' && address !== null ? address.port : 0}`
  }

  async stop(): Promise<void> {
    await new Promise((resolve) => this.server.close(resolve))
  }

  private answer(request: IncomingMessage, response: ServerResponse): void {
    const url = decodeURIComponent(request.url ?? '')
    this.requests.push(`${request.headers.authorization ?? 'no token'} ${url}`)
    const json = (status: number, body: unknown, headers: Record<string, string> = {}): void => {
      response.writeHead(status, { 'Content-Type': 'application/json', ...headers })
      response.end(JSON.stringify(body))
    }
    if (this.down) return json(503, { error: 'down' })
    if (url.startsWith('/xet-auth')) {
      return json(200, { accessToken: 'xet', casUrl: `http://${request.headers.host}`, exp: Date.now() / 1000 + 600 })
    }
    const stored = Object.keys(FILES).find((name) => url.endsWith(`owner/name/${name}`))
    if (stored !== undefined && url.startsWith('/v2/reconstructions/')) {
      return json(200, reconstruction(FILES[stored], `http://${request.headers.host}/xorb/owner/name/${stored}`))
    }
    if (stored !== undefined && url.startsWith('/xorb/')) return this.send(xorb(FILES[stored]), request, response)
    if (!url.includes('/owner/name')) return json(401, { error: 'Repository not found' })
    if (url.includes('/revision/')) {
      return json(200, {
        _id: '1',
        id: 'owner/name',
        sha: COMMIT,
        private: false,
        downloads: 0,
        gated: false,
        likes: 0,
        lastModified: '2030-01-01',
      })
    }
    if (url.includes('/tree/')) {
      const entries = Object.entries(FILES).map(([path, text]) => ({
        ...{ type: 'file', path, size: text.length, oid: 'x' },
        lfs: { oid: createHash('sha256').update(text).digest('hex'), size: text.length, pointerSize: 100 },
      }))
      return json(200, entries)
    }
    const path = Object.keys(FILES).find((name) => url.endsWith(`/resolve/${COMMIT}/${name}`))
    if (path === undefined) return json(404, { error: 'none' }, { 'X-Error-Code': 'EntryNotFound' })
    if (this.xet) {
      const [size, origin] = [FILES[path].length, `http://${request.headers.host}`]
      const links = `<${origin}/xet-auth>; rel="xet-auth", <${origin}/v2/reconstructions/owner/name/${path}>; rel="xet-reconstruction-info"`
      return json(
        200,
        { hash: 'f'.repeat(64) },
        {
          ...{ 'Content-Type': 'application/vnd.xet-fileinfo+json', 'X-Linked-Size': String(size) },
          ...{ 'X-Linked-ETag': '"e"', 'X-Xet-Hash': 'f'.repeat(64), Link: links },
        },
      )
    }
    this.send(FILES[path], request, response)
  }

  private send(content: string | Buffer, request: IncomingMessage, response: ServerResponse): void {
    const body =
      this.damage && typeof content === 'string' ? Buffer.from(content.replace('q', 'x')) : Buffer.from(content)
    const range = /bytes=(\d+)-(\d+)/.exec(request.headers.range ?? '')
    const headers = { ETag: '"e"', 'Content-Type': 'text/plain' }
    if (range === null) {
      response.writeHead(200, { ...headers, 'Content-Length': body.length })
      response.end(body)
      return
    }
    const slice = body.subarray(Number(range[1]), Number(range[2]) + 1)
    const contentRange = `bytes ${range[1]}-${Number(range[1]) + slice.length - 1}/${body.length}`
    response.writeHead(206, { ...headers, 'Content-Length': slice.length, 'Content-Range': contentRange })
    response.end(slice)
  }
}

/** Two chunks of a file as Xet stores them: version, length, no compression, length again, then the bytes. */
function xorb(text: string): Buffer {
  const chunks = [text.slice(0, 10), text.slice(10)].map((part) => {
    const header = Buffer.alloc(8)
    header.writeUIntLE(part.length, 1, 3)
    header.writeUIntLE(part.length, 5, 3)
    return Buffer.concat([header, Buffer.from(part)])
  })
  return Buffer.concat(chunks)
}

function reconstruction(text: string, url: string): object {
  const range = { chunks: { start: 0, end: 2 }, bytes: { start: 0, end: xorb(text).length - 1 } }
  return {
    terms: [{ hash: 'e'.repeat(64), unpacked_length: text.length, range: { start: 0, end: 2 } }],
    xorbs: { ['e'.repeat(64)]: [{ url, ranges: [range] }] },
    offset_into_first_range: 0,
  }
}

describe('fetchHubDataset', () => {
  const hub = new FakeHub()
  const cacheDir = temporaryFolder()
  let hubUrl = ''

  beforeAll(async () => {
    hubUrl = await hub.start()
  })
  afterAll(() => hub.stop())

  const fetched = async (reference: string, folder = cacheDir): Promise<string[]> => {
    const paths = await fetchHubDataset(reference, { hubUrl, cacheDir: folder, accessToken: 'hf_secret' })
    return paths.map((path) => relative(join(folder, 'owner--name', COMMIT), path))
  }

  it('downloads the train split where nothing is named, and keeps it by commit', async () => {
    expect(await fetched('hf:owner/name')).toEqual(['data/train-00000-of-00001.jsonl'])
    const path = join(cacheDir, 'owner--name', COMMIT, 'data/train-00000-of-00001.jsonl')
    expect(readFileSync(path, 'utf8')).toBe(FILES['data/train-00000-of-00001.jsonl'])
    hub.requests = []
    await fetched('hf:owner/name@main:train')
    expect(hub.requests.filter((request) => request.includes('/resolve/'))).toEqual([])
    expect(hub.requests[0]).toMatch(/^Bearer hf_secret \/api\/datasets\/owner\/name\/revision\/main/)
  })

  it('downloads the split that is named, and no metadata or path that leads elsewhere', async () => {
    expect(await fetched('hf:owner/name:test')).toEqual(['data/test-00000-of-00001.jsonl'])
    await expect(fetched('hf:owner/name:validation')).rejects.toThrow(/no data files of a split "validation"; it has/)
    await expect(fetched('hf:owner/name:outside')).rejects.toThrow(/no data files of a split "outside"/)
  })

  it('uses what it has where the Hub cannot be reached', async () => {
    hub.down = true
    expect(await fetched('hf:owner/name')).toEqual(['data/train-00000-of-00001.jsonl'])
    await expect(fetched('hf:owner/name', join(cacheDir, 'empty'))).rejects.toThrow(/cannot be reached/)
    hub.down = false
  })

  it('refuses what arrives damaged, and leaves nothing of it behind', async () => {
    hub.damage = true
    const other = join(cacheDir, 'damaged')
    await expect(fetched('hf:owner/name', other)).rejects.toThrow(/arrived incomplete; run again/)
    hub.damage = false
    expect(await fetched('hf:owner/name', other)).toHaveLength(1)
  })

  it('downloads a file that is kept in Xet’s storage, chunk by chunk', async () => {
    hub.xet = true
    hub.requests = []
    const other = join(cacheDir, 'xet')
    const [path] = await fetched('hf:owner/name', other)
    expect(readFileSync(join(other, 'owner--name', COMMIT, path), 'utf8')).toBe(FILES[path])
    expect(hub.requests.some((request) => request.includes('/xorb/'))).toBe(true)
    hub.xet = false
  })

  it('says that a dataset does not exist or may not be read, and keeps the token to itself', async () => {
    const failure = fetched('hf:nobody/nothing')
    await expect(failure).rejects.toThrow(DataError)
    await expect(failure).rejects.toThrow(
      /nobody\/nothing@main: the Hub answered 401: it does not exist, or needs a token/,
    )
    await expect(failure).rejects.not.toThrow(/hf_secret/)
  })

  it('reads references', () => {
    expect(parseHubReference('hf:a/b@refs/convert/parquet:train')).toEqual({
      name: 'a/b',
      revision: 'refs/convert/parquet',
      split: 'train',
    })
    expect(parseHubReference('hf:a/b')).toEqual({ name: 'a/b', revision: 'main', split: undefined })
    for (const text of ['hf:a', 'hf:a/b/c', 'hf:../b', 'hf:a/b@']) {
      if (text !== 'hf:../b') expect(() => parseHubReference(text)).toThrow(/must be written hf:owner\/name/)
    }
  })
})
