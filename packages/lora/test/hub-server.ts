import { createHash, randomBytes } from 'node:crypto'
import { createServer } from 'node:http'
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'

/** A file of a commit. */
export interface HubFile {
  readonly content: Buffer
  /** Whether it is stored by its SHA-256 in large-file storage, or by Git. */
  readonly lfs: boolean
}

export interface HubCommit {
  readonly oid: string
  readonly title: string
  readonly files: ReadonlyMap<string, HubFile>
}

export interface HubRepo {
  readonly id: string
  readonly private: boolean
  readonly commits: HubCommit[]
}

/** Answers a request instead of the server: a status, or `drop` to close the connection. */
export type Fault = (method: string, path: string) => number | 'drop' | undefined

export interface HubServer {
  readonly url: string
  readonly repos: Map<string, HubRepo>
  /** `METHOD path` of every request. */
  readonly requests: string[]
  fault: Fault | undefined
  /** Told of each request before it is answered. */
  onRequest: ((method: string, path: string) => void) | undefined
  /** Changes the bytes of an upload on arrival, as a broken storage would. */
  corrupt: ((content: Buffer) => Buffer) | undefined
  head(repo: string): HubCommit
  close(): Promise<void>
}

interface Context {
  readonly server: HubServer
  readonly storage: Map<string, Buffer>
  readonly token: string
}

interface Reply {
  readonly status: number
  readonly json?: unknown
  readonly body?: Buffer
  readonly headers?: Record<string, string>
}

type Handler = (match: RegExpExecArray, body: Buffer, request: IncomingMessage, context: Context) => Reply

const hash = (content: Buffer): string => createHash('sha256').update(content).digest('hex')
const gitOid = (content: Buffer): string =>
  createHash('sha1').update(`blob ${content.length}\0`).update(content).digest('hex')
const isLarge = (path: string): boolean => /\.(safetensors|bin|gguf|model)$/.test(path)
const parse = (body: Buffer): unknown => JSON.parse(body.toString('utf8'))

function missing(code: string): Reply {
  return { status: 404, json: { error: code }, headers: { 'X-Error-Code': code, 'X-Error-Message': code } }
}

function at(repo: HubRepo, revision: string): HubCommit | undefined {
  if (revision === 'main' || revision === 'HEAD') return repo.commits.at(-1)
  return repo.commits.find((commit) => commit.oid === revision)
}

function entry(path: string, { content, lfs }: HubFile): Record<string, unknown> {
  const base = { type: 'file', path, size: content.length }
  if (!lfs) return { ...base, oid: gitOid(content) }
  const oid = hash(content)
  const pointer = Buffer.from(`version https://git-lfs.github.com/spec/v1\noid sha256:${oid}\nsize ${content.length}\n`)
  return { ...base, oid: gitOid(pointer), lfs: { oid, size: content.length, pointerSize: pointer.length } }
}

const create: Handler = (_match, body, _request, { server }) => {
  const {
    name,
    organization,
    visibility,
    private: hidden,
  } = parse(body) as Record<string, string | boolean | undefined>
  const id = `${String(organization ?? 'me')}/${String(name)}`
  if (server.repos.has(id))
    return { status: 409, json: { error: 'You already created this model repo', url: `${server.url}/${id}` } }
  const first: HubFile = { content: Buffer.from('*.safetensors filter=lfs\n'), lfs: false }
  const commit = {
    oid: randomBytes(20).toString('hex'),
    title: 'initial commit',
    files: new Map([['.gitattributes', first]]),
  }
  server.repos.set(id, { id, private: visibility === 'private' || hidden === true, commits: [commit] })
  return { status: 200, json: { url: `${server.url}/${id}`, id, name: id } }
}

const preupload: Handler = (_match, body) => {
  const { files } = parse(body) as { files: { path: string }[] }
  const modes = files.map(({ path }) => ({ path, uploadMode: isLarge(path) ? 'lfs' : 'regular', shouldIgnore: false }))
  return { status: 200, json: { files: modes } }
}

const lfsBatch: Handler = (_match, body, _request, { server, storage }) => {
  const { objects } = parse(body) as { objects: { oid: string; size: number }[] }
  const answers = objects.map((object) => {
    if (storage.has(object.oid)) return object
    return { ...object, actions: { upload: { href: `${server.url}/storage/${object.oid}?signature=s3cret` } } }
  })
  return { status: 200, json: { transfer: 'basic', objects: answers } }
}

const store: Handler = ([, oid], body, _request, { server, storage }) => {
  storage.set(oid, server.corrupt?.(body) ?? body)
  return { status: 200, body: Buffer.alloc(0) }
}

interface CommitLine {
  key: string
  value: { summary: string; path: string; content: string; oid: string }
}

const commit: Handler = ([, id], body, _request, { server, storage }) => {
  const repo = server.repos.get(id)
  const last = repo?.commits.at(-1)
  if (repo === undefined || last === undefined) return missing('RepoNotFound')
  const files = new Map(last.files)
  let title = ''
  for (const line of body
    .toString('utf8')
    .split('\n')
    .filter((text) => text !== '')) {
    const { key, value } = JSON.parse(line) as CommitLine
    if (key === 'header') title = value.summary
    else if (key === 'file') files.set(value.path, { content: Buffer.from(value.content, 'base64'), lfs: false })
    else if (key === 'deletedFile') files.delete(value.path)
    else if (key === 'lfsFile') {
      const content = storage.get(value.oid)
      if (content === undefined) return { status: 400, json: { error: `there is no object ${value.oid}` } }
      files.set(value.path, { content, lfs: true })
    }
  }
  const oid = randomBytes(20).toString('hex')
  repo.commits.push({ oid, title, files })
  return {
    status: 200,
    json: { commitOid: oid, commitUrl: `${server.url}/${id}/commit/${oid}`, hookOutput: '', success: true },
  }
}

const info: Handler = ([, id, revision], _body, _request, { server }) => {
  const repo = server.repos.get(id)
  if (repo === undefined) return missing('RepoNotFound')
  const found = at(repo, revision || 'main')
  if (found === undefined) return missing('RevisionNotFound')
  const siblings = [...found.files.keys()].map((rfilename) => ({ rfilename }))
  const json = {
    _id: '0', id, modelId: id, sha: found.oid, private: repo.private, gated: false, downloads: 0, likes: 0, tags: [],
    lastModified: '2026-01-01T00:00:00.000Z', siblings,
  } // prettier-ignore
  return { status: 200, json }
}

const pathsInfo: Handler = ([, id, revision], body, request, { server }) => {
  const repo = server.repos.get(id)
  const found = repo && at(repo, revision)
  if (found === undefined) return missing(repo === undefined ? 'RepoNotFound' : 'RevisionNotFound')
  const form = request.headers['content-type']?.includes('urlencoded') === true
  const paths = form ? new URLSearchParams(body.toString()).getAll('paths') : (parse(body) as { paths: string[] }).paths
  const known = paths.flatMap((path) => {
    const file = found.files.get(path)
    return file === undefined ? [] : [entry(path, file)]
  })
  return { status: 200, json: known }
}

const tree: Handler = ([, id, revision], _body, _request, { server }) => {
  const repo = server.repos.get(id)
  const found = repo && at(repo, revision)
  if (found === undefined) return missing(repo === undefined ? 'RepoNotFound' : 'RevisionNotFound')
  return { status: 200, json: [...found.files].map(([path, file]) => entry(path, file)) }
}

const resolveFile: Handler = ([, id, revision, path], _body, request, { server }) => {
  const repo = server.repos.get(id)
  const found = repo && at(repo, revision)
  const file = found?.files.get(decodeURIComponent(path))
  if (found === undefined) return missing(repo === undefined ? 'RepoNotFound' : 'RevisionNotFound')
  if (file === undefined) return missing('EntryNotFound')
  const etag = `"${file.lfs ? hash(file.content) : gitOid(file.content)}"`
  const headers = { 'X-Repo-Commit': found.oid, ETag: etag, 'Accept-Ranges': 'bytes' }
  const range = /^bytes=(\d+)-(\d*)$/.exec(request.headers.range ?? '')
  if (range === null) return { status: 200, body: file.content, headers }
  const end = Math.min(range[2] === '' ? Infinity : Number(range[2]), file.content.length - 1)
  const contentRange = `bytes ${range[1]}-${end}/${file.content.length}`
  return {
    status: 206,
    body: file.content.subarray(Number(range[1]), end + 1),
    headers: { ...headers, 'Content-Range': contentRange },
  }
}

const whoAmI: Handler = () => ({
  status: 200,
  json: {
    type: 'user',
    id: '0',
    name: 'me',
    fullname: 'Me',
    orgs: [],
    auth: { type: 'access_token', accessToken: { displayName: 't', role: 'write' } },
  },
})

const routes: readonly (readonly [string, RegExp, Handler])[] = [
  ['GET', /^\/api\/whoami-v2$/, whoAmI],
  ['POST', /^\/api\/repos\/create$/, create],
  ['POST', /^\/api\/validate-yaml$/, () => ({ status: 200, json: { errors: [], warnings: [] } })],
  ['POST', /^\/api\/models\/([^/]+\/[^/]+)\/preupload\/([^/]+)$/, preupload],
  ['POST', /^\/api\/models\/([^/]+\/[^/]+)\/commit\/([^/]+)$/, commit],
  ['POST', /^\/api\/models\/([^/]+\/[^/]+)\/paths-info\/([^/]+)$/, pathsInfo],
  ['GET', /^\/api\/models\/([^/]+\/[^/]+)\/tree\/([^/]+)$/, tree],
  ['GET', /^\/api\/models\/([^/]+\/[^/]+)\/revision\/([^/]+)$/, info],
  ['GET', /^\/api\/models\/([^/]+\/[^/]+)()$/, info],
  ['POST', /^\/([^/]+\/[^/]+)\.git\/info\/lfs\/objects\/batch$/, lfsBatch],
  ['PUT', /^\/storage\/([0-9a-f]{64})$/, store],
  ['GET', /^\/([^/]+\/[^/]+)\/resolve\/([^/]+)\/(.+)$/, resolveFile],
]

function answer(request: IncomingMessage, body: Buffer, context: Context): Reply {
  const path = new URL(request.url ?? '/', 'http://localhost').pathname
  const method = request.method === 'HEAD' ? 'GET' : request.method
  // Stored objects are reached by their signed address, everything else by the token.
  if (!path.startsWith('/storage/') && request.headers.authorization !== `Bearer ${context.token}`) {
    return { status: 401, json: { error: 'Invalid username or password.' } }
  }
  for (const [verb, pattern, handler] of routes) {
    const match = verb === method ? pattern.exec(path) : null
    if (match !== null) return handler(match, body, request, context)
  }
  return missing('RouteNotFound')
}

async function respond(request: IncomingMessage, response: ServerResponse, context: Context): Promise<void> {
  const chunks: Buffer[] = []
  for await (const chunk of request as AsyncIterable<Buffer>) chunks.push(chunk)
  const { server } = context
  const path = new URL(request.url ?? '/', 'http://localhost').pathname
  server.requests.push(`${request.method} ${path}`)
  server.onRequest?.(request.method ?? '', path)
  const fault = server.fault?.(request.method ?? '', path)
  if (fault === 'drop') {
    request.socket.destroy()
    return
  }
  const reply =
    fault === undefined ? answer(request, Buffer.concat(chunks), context) : { status: fault, json: { error: 'fault' } }
  const body =
    'json' in reply
      ? Buffer.from(JSON.stringify(reply.json))
      : (('body' in reply ? reply.body : undefined) ?? Buffer.alloc(0))
  const type = 'json' in reply ? 'application/json; charset=utf-8' : 'application/octet-stream'
  const headers = 'headers' in reply ? reply.headers : {}
  response.writeHead(reply.status, { 'Content-Type': type, 'Content-Length': body.length, ...headers })
  response.end(request.method === 'HEAD' ? undefined : body)
}

/** The part of the Hugging Face Hub's protocol that publishing and reading a model need, on 127.0.0.1. */
export async function startHubServer(token: string): Promise<HubServer> {
  const storage = new Map<string, Buffer>()
  const http = createServer((request, response) => {
    void respond(request, response, { server, storage, token })
  })
  const server: HubServer = {
    url: '',
    repos: new Map(),
    requests: [],
    fault: undefined,
    onRequest: undefined,
    corrupt: undefined,
    head(repo) {
      const last = server.repos.get(repo)?.commits.at(-1)
      if (last === undefined) throw new Error(`no repository ${repo}`)
      return last
    },
    close: () =>
      new Promise((done) => {
        http.closeAllConnections()
        http.close(() => {
          done()
        })
      }),
  }
  await new Promise<void>((ready) => http.listen(0, '127.0.0.1', ready))
  return Object.assign(server, { url: `http://127.0.0.1:${(http.address() as AddressInfo).port}` })
}
