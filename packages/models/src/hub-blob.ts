import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import type { FileHandle } from 'node:fs/promises'
import { mkdir, open, rename, rm, stat } from 'node:fs/promises'
import { dirname } from 'node:path'
import { addAbortSignal, Readable } from 'node:stream'
import type { ReadableStream } from 'node:stream/web'
import { setTimeout as sleep } from 'node:timers/promises'
import type { HubAccess } from './hub-access.js'
import { networkError, refusalError } from './hub-access.js'
import { ModelError } from './errors.js'
import { writeFully } from './write-fully.js'

/** A file of a repository at a commit, and how its content is known to be right. */
export interface HubFile {
  readonly repo: string
  readonly commit: string
  readonly path: string
  readonly size: number
  /** Name of the blob in the cache: the hash that the Hub uses as ETag. */
  readonly etag: string
  /** `sha256` of the content, `git` for a git blob's SHA-1, null where the etag is a hash that we cannot compute. */
  readonly check: 'sha256' | 'git' | null
}

async function sizeOf(path: string): Promise<number> {
  try {
    return (await stat(path)).size
  } catch {
    return 0
  }
}

async function contentHash(path: string, size: number, check: 'sha256' | 'git'): Promise<string> {
  const hash = check === 'git' ? createHash('sha1').update(`blob ${size}\0`) : createHash('sha256')
  for await (const chunk of createReadStream(path, { highWaterMark: 2 ** 20 })) hash.update(chunk as Buffer)
  return hash.digest('hex')
}

/** What a download needs beside its file. */
export interface Transfer {
  readonly access: HubAccess
  readonly signal: AbortSignal
  /** Called with the bytes of the file that are on disk. */
  readonly onBytes: (received: number) => void
  /** Milliseconds before the second attempt; doubles each time. */
  readonly retryDelay: number
}

/** Asks for the bytes from `start` on. A server that ignores the range answers 200: then the file starts anew. */
async function request(file: HubFile, start: number, { access, signal }: Transfer): Promise<Response> {
  const url = `${access.endpoint}/${file.repo}/resolve/${file.commit}/${encodeURIComponent(file.path)}`
  const headers: Record<string, string> = { 'Accept-Encoding': 'identity' }
  if (access.token) headers.Authorization = `Bearer ${access.token}`
  if (start > 0) headers.Range = `bytes=${start}-`
  const response = await fetch(url, { headers, signal })
  if (response.ok) return response
  await response.body?.cancel()
  const refusal = { status: response.status, code: response.headers.get('X-Error-Code') }
  throw refusalError(file.repo, file.commit, refusal, access)
}

async function append(
  response: Response,
  handle: FileHandle,
  file: HubFile,
  start: number,
  { signal, onBytes }: Transfer,
): Promise<void> {
  const who = `${file.repo}/${file.path}`
  let position = start
  if (response.body) {
    // Node 20's fetch does not reliably hand an abort on to a body that is being read; a Node stream does.
    const body = addAbortSignal(signal, Readable.fromWeb(response.body as ReadableStream<Uint8Array>))
    for await (const chunk of body as AsyncIterable<Uint8Array>) {
      if (position + chunk.length > file.size) {
        throw new ModelError('network', `${who}: must have ${file.size} bytes, the Hub sent more; try again`)
      }
      await writeFully(handle, chunk, position)
      position += chunk.length
      onBytes(position)
    }
  }
  if (position < file.size) {
    throw new ModelError('network', `${who}: broke off at byte ${position} of ${file.size}; try again`)
  }
  await handle.sync()
}

/** Takes up an interrupted download where it stopped. */
async function resume(file: HubFile, incomplete: string, transfer: Transfer): Promise<void> {
  const already = await sizeOf(incomplete)
  let start = already > file.size ? 0 : already
  transfer.onBytes(start)
  if (start === file.size && start > 0) return
  const response = await request(file, start, transfer)
  if (response.status !== 206) start = 0
  const handle = await open(incomplete, start > 0 ? 'r+' : 'w')
  try {
    await append(response, handle, file, start, transfer)
  } finally {
    await handle.close()
  }
}

async function attempt(file: HubFile, blobPath: string, transfer: Transfer): Promise<void> {
  const incomplete = `${blobPath}.incomplete`
  await mkdir(dirname(blobPath), { recursive: true })
  await resume(file, incomplete, transfer)
  if (file.check && (await contentHash(incomplete, file.size, file.check)) !== file.etag) {
    await rm(incomplete)
    const rule = 'the download is damaged (its hash differs) and was removed; try again'
    throw new ModelError('network', `${file.repo}/${file.path}: ${rule}`)
  }
  await rename(incomplete, blobPath)
}

/** What a failed attempt means: an abort as it is, a full disk as such, anything else as a connection that broke. */
function meaning(error: unknown, file: HubFile, blobPath: string, { access, signal }: Transfer): unknown {
  if (signal.aborted) return signal.reason
  if (error instanceof ModelError) return error
  if (error instanceof Error && 'syscall' in error) {
    return new ModelError('access', `${blobPath}: cannot be written (${error.message})`, [], { cause: error })
  }
  return networkError(file.repo, access, error)
}

const attempts = 5

/**
 * Downloads a file to `blobPath` (through `<blobPath>.incomplete`, which a later call takes up) and checks its content.
 * Broken connections are retried. Throws ModelError, or the signal's reason.
 */
export async function downloadBlob(file: HubFile, blobPath: string, transfer: Transfer): Promise<void> {
  for (let tried = 1; ; tried++) {
    try {
      await attempt(file, blobPath, transfer)
      return
    } catch (thrown) {
      const error = meaning(thrown, file, blobPath, transfer)
      if (tried === attempts || !(error instanceof ModelError && error.retryable)) throw error
      await sleep(transfer.retryDelay * 2 ** (tried - 1), undefined, { signal: transfer.signal })
    }
  }
}
