import { createHash } from 'node:crypto'
import { readFile, readdir } from 'node:fs/promises'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'

/** A repository as the Hub would serve it. */
export interface ServedRepo {
  readonly commit: string
  readonly files: ReadonlyMap<string, Buffer>
  readonly access?: 'public' | 'private' | 'gated'
}

/** A Hub on this machine: the few endpoints that a download uses, and faults on request. */
export interface HubServer {
  readonly endpoint: string
  /** `METHOD path` (and ` range` where one was asked for) of every request. */
  readonly requests: string[]
  readonly repos: Map<string, ServedRepo>
  /** Called for each file about to be sent: a number of bytes after which to break the connection, a buffer to send instead. */
  fault: ((path: string) => { breakAfter?: number; instead?: Buffer; status?: number } | undefined) | undefined
  close(): Promise<void>
}

export const token = 'hf_test'
export const commit = '0123456789abcdef0123456789abcdef01234567'

export async function repoFrom(folder: string, extra: Record<string, string> = {}): Promise<ServedRepo> {
  const names = (await readdir(folder)).filter((name) => name !== 'golden.safetensors')
  const entries = await Promise.all(names.map(async (name) => [name, await readFile(join(folder, name))] as const))
  const more = Object.entries(extra).map(([name, text]) => [name, Buffer.from(text)] as const)
  return { commit, files: new Map([...entries, ...more]) }
}

const isLfs = (path: string): boolean => path.endsWith('.safetensors')
const sha256 = (data: Buffer): string => createHash('sha256').update(data).digest('hex')
const gitHash = (data: Buffer): string => createHash('sha1').update(`blob ${data.length}\0`).update(data).digest('hex')

function refuse(response: ServerResponse, status: number, code?: string): void {
  response.writeHead(status, { 'Content-Type': 'application/json', ...(code ? { 'X-Error-Code': code } : {}) })
  response.end(JSON.stringify({ error: code ?? 'refused' }))
}

function sendFile(
  server: HubServer,
  request: IncomingMessage,
  response: ServerResponse,
  path: string,
  data: Buffer,
): void {
  const fault = server.fault?.(path)
  if (fault?.status) return refuse(response, fault.status)
  const body = fault?.instead ?? data
  const range = /^bytes=(\d+)-$/.exec(request.headers.range ?? '')
  const start = range ? Number(range[1]) : 0
  const headers = { 'Content-Length': body.length - start, ETag: `"${gitHash(data)}"` }
  if (range)
    response.writeHead(206, { ...headers, 'Content-Range': `bytes ${start}-${body.length - 1}/${body.length}` })
  else response.writeHead(200, headers)
  if (fault?.breakAfter === undefined) response.end(body.subarray(start))
  else response.write(body.subarray(start, start + fault.breakAfter), () => setTimeout(() => response.destroy(), 20))
}

function handle(server: HubServer, request: IncomingMessage, response: ServerResponse): void {
  const { pathname } = new URL(request.url ?? '/', 'http://localhost')
  server.requests.push(`${request.method} ${pathname}${request.headers.range ? ` ${request.headers.range}` : ''}`)
  const match = /^\/(?:api\/models\/)?([^/]+\/[^/]+)\/(revision|tree|resolve)\/([^/]+)(?:\/(.+))?$/.exec(pathname)
  const repo = match && server.repos.get(match[1])
  const { authorization } = request.headers
  const known = authorization === `Bearer ${token}`
  if (authorization && !known) return refuse(response, 401)
  if (!match || !repo || (repo.access === 'private' && !known))
    return refuse(response, known ? 404 : 401, 'RepoNotFound')
  if (repo.access === 'gated' && match[2] !== 'revision') return refuse(response, known ? 403 : 401, 'GatedRepo')
  const revision = decodeURIComponent(match[3])
  if (![repo.commit, 'main', 'v1'].includes(revision)) return refuse(response, 404, 'RevisionNotFound')
  if (match[2] === 'resolve') {
    const path = decodeURIComponent(match[4])
    const data = repo.files.get(path)
    return data ? sendFile(server, request, response, path, data) : refuse(response, 404, 'EntryNotFound')
  }
  response.writeHead(200, { 'Content-Type': 'application/json' })
  if (match[2] === 'revision') {
    response.end(JSON.stringify({ _id: 'x', id: match[1], sha: repo.commit, lastModified: '2026-01-01T00:00:00Z' }))
    return
  }
  const entries = [...repo.files].map(([path, data]) => ({
    type: 'file',
    path,
    size: data.length,
    oid: gitHash(data),
    ...(isLfs(path) ? { lfs: { oid: sha256(data), size: data.length, pointerSize: 130 } } : {}),
  }))
  response.end(JSON.stringify([{ type: 'directory', path: 'onnx', size: 0, oid: 'd' }, ...entries]))
}

/** Starts a Hub on a free port of this machine. */
export async function startHub(repos: Record<string, ServedRepo>): Promise<HubServer> {
  const http = createServer((request, response) => handle(hub, request, response))
  await new Promise<void>((resolve) => http.listen(0, '127.0.0.1', resolve))
  const hub: HubServer = {
    endpoint: `http://127.0.0.1:${(http.address() as AddressInfo).port}`,
    requests: [],
    repos: new Map(Object.entries(repos)),
    fault: undefined,
    close: () =>
      new Promise((resolve) => {
        http.closeAllConnections()
        http.close(() => resolve())
      }),
  }
  return hub
}
