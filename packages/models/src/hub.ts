import type { ListFileEntry } from '@huggingface/hub'
import { copyFile, mkdir, readFile, rename, stat, symlink, writeFile } from 'node:fs/promises'
import { dirname, join, relative } from 'node:path'
import { ModelError } from './errors.js'
import type { HubAccess, HubOptions, HubRefusal } from './hub-access.js'
import { hubAccess, networkError, refusalError } from './hub-access.js'
import type { HubFile } from './hub-blob.js'
import { downloadBlob } from './hub-blob.js'

/** A model's files in the cache, all of one commit. */
export interface HubSnapshot {
  /** `owner/name`. */
  readonly repo: string
  /** The commit, 40 hexadecimal digits. */
  readonly commit: string
  readonly folder: string
}

const commitPattern = /^[0-9a-f]{40}$/
const etagPattern = /^(?:[0-9a-f]{40}|[0-9a-f]{64})$/
const indexFile = 'model.safetensors.index.json'
const singleFile = 'model.safetensors'
/** What a model folder needs beside its weights; subfolders and other formats of the same weights are left out. */
const smallFiles =
  /^(?:config|generation_config|tokenizer|tokenizer_config|special_tokens_map|added_tokens|vocab|chat_template|processor_config)\.json$|^(?:tokenizer\.model(?:\.v\d+)?|merges\.txt|vocab\.txt|chat_template\.jinja|model\.safetensors\.index\.json|LICENSE(?:\.\w+)?)$/
const shardName = /^[\w.-]+\.safetensors$/
/** Above any published tokenizer or index; more is not one of these files. */
const maxSmallBytes = 2 ** 28
const parallelDownloads = 4

async function exists(path: string): Promise<boolean> {
  try {
    await stat(path)
    return true
  } catch {
    return false
  }
}

/** The weight files that the folder's index names, or the single one. */
async function weightFiles(folder: string): Promise<string[]> {
  const path = join(folder, indexFile)
  if (!(await exists(path))) return [singleFile]
  const index = JSON.parse(await readFile(path, 'utf8')) as { weight_map?: unknown } | null
  const map = index?.weight_map
  const files = typeof map === 'object' && map !== null ? [...new Set(Object.values(map))] : []
  const good = files.filter((file): file is string => typeof file === 'string' && shardName.test(file))
  if (good.length === 0 || good.length !== files.length) {
    throw new ModelError('checkpoint', `${path}: weight_map must name .safetensors files beside it`)
  }
  return good
}

/** True if a snapshot holds a whole model. The weights are downloaded last, so they stand for the rest. */
async function isComplete(folder: string): Promise<boolean> {
  if (!(await exists(join(folder, 'config.json')))) return false
  const present = await Promise.all((await weightFiles(folder)).map((file) => exists(join(folder, file))))
  return present.every(Boolean)
}

/** Where the cache keeps a repository: the layout that Python's huggingface_hub uses. */
class RepositoryCache {
  readonly root: string

  constructor(
    readonly repo: string,
    cacheDir: string,
  ) {
    this.root = join(cacheDir, `models--${repo.replace('/', '--')}`)
  }

  snapshot(commit: string): HubSnapshot {
    return { repo: this.repo, commit, folder: join(this.root, 'snapshots', commit) }
  }

  blob(etag: string): string {
    return join(this.root, 'blobs', etag)
  }

  /** The complete snapshot of a branch, tag or commit, if the cache has one. */
  async find(revision: string): Promise<HubSnapshot | null> {
    let commit = revision
    if (!commitPattern.test(revision)) {
      try {
        commit = (await readFile(join(this.root, 'refs', revision), 'utf8')).trim()
      } catch {
        return null
      }
    }
    const snapshot = this.snapshot(commit)
    return commitPattern.test(commit) && (await isComplete(snapshot.folder)) ? snapshot : null
  }

  async setReference(revision: string, commit: string): Promise<void> {
    if (revision === commit) return
    const path = join(this.root, 'refs', revision)
    await mkdir(dirname(path), { recursive: true })
    const temporary = `${path}.${process.pid}.tmp`
    await writeFile(temporary, commit)
    await rename(temporary, path)
  }

  /** Makes a blob appear in a snapshot: a link, or a copy where the file system has no links. */
  async link(etag: string, commit: string, path: string): Promise<void> {
    const target = join(this.snapshot(commit).folder, path)
    await mkdir(dirname(target), { recursive: true })
    try {
      await symlink(relative(dirname(target), this.blob(etag)), target)
    } catch {
      if (!(await exists(target))) await copyFile(this.blob(etag), target)
    }
  }
}

/** Calls the Hub's client; refusals and broken connections become ModelError. */
async function ask<T>(
  repo: string,
  revision: string,
  access: HubAccess,
  call: (fetcher: typeof fetch) => Promise<T>,
): Promise<T> {
  let refusal: HubRefusal | undefined
  const watching: typeof fetch = async (input, init) => {
    const response = await fetch(input, init)
    // The client's own error has no headers, and only the header tells a gated repository from a private one.
    if (!response.ok) refusal = { status: response.status, code: response.headers.get('X-Error-Code') }
    return response
  }
  try {
    return await call(watching)
  } catch (error) {
    throw refusal ? refusalError(repo, revision, refusal, access, error) : networkError(repo, access, error)
  }
}

async function commitOf(repo: string, revision: string, access: HubAccess): Promise<string> {
  const { modelInfo } = await import('@huggingface/hub')
  const info = await ask(repo, revision, access, (fetcher) =>
    modelInfo({
      name: repo,
      revision,
      hubUrl: access.endpoint,
      accessToken: access.token,
      additionalFields: ['sha'],
      fetch: fetcher,
    }),
  )
  if (!commitPattern.test(info.sha))
    throw new ModelError('network', `${repo}: the Hub gave no commit for ${revision}; try again`)
  return info.sha
}

async function rootFiles(repo: string, commit: string, access: HubAccess): Promise<Map<string, HubFile>> {
  const { listFiles } = await import('@huggingface/hub')
  const entries = await ask(repo, commit, access, async (fetcher) => {
    const all: ListFileEntry[] = []
    const listing = listFiles({
      repo,
      revision: commit,
      hubUrl: access.endpoint,
      accessToken: access.token,
      fetch: fetcher,
    })
    for await (const entry of listing) all.push(entry)
    return all
  })
  const files = new Map<string, HubFile>()
  for (const { type, path, size, lfs, xetHash, oid } of entries) {
    const etag = lfs?.oid ?? xetHash ?? oid
    if (type !== 'file' || path.includes('/') || etag === undefined || !etagPattern.test(etag)) continue
    files.set(path, { repo, commit, path, size, etag, check: lfs ? 'sha256' : xetHash ? null : 'git' })
  }
  return files
}

/** Downloads what the cache lacks, four files at a time, and links it into the snapshot. The first failure ends all. */
async function fetchFiles(
  files: readonly HubFile[],
  cache: RepositoryCache,
  access: HubAccess,
  { signal, onProgress, retryDelay = 500 }: HubOptions,
): Promise<void> {
  const failed = new AbortController()
  const stop = signal ? AbortSignal.any([signal, failed.signal]) : failed.signal
  const received = new Map<string, number>()
  const totalBytes = files.reduce((sum, { size }) => sum + size, 0)
  const report = (file: string, bytes: number): void => {
    received.set(file, bytes)
    onProgress?.({ file, receivedBytes: [...received.values()].reduce((sum, n) => sum + n, 0), totalBytes })
  }
  const queue = [...files]
  const worker = async (): Promise<void> => {
    for (let file = queue.shift(); file; file = queue.shift()) {
      const { path, etag, commit, size } = file
      const onBytes = (bytes: number): void => report(path, bytes)
      const blob = cache.blob(etag)
      if (!(await exists(blob))) await downloadBlob(file, blob, { access, signal: stop, onBytes, retryDelay })
      report(path, size)
      await cache.link(etag, commit, path)
    }
  }
  const run = async (): Promise<void> => {
    try {
      await worker()
    } catch (error) {
      failed.abort(error)
    }
  }
  await Promise.all(Array.from({ length: Math.min(parallelDownloads, files.length) }, run))
  stop.throwIfAborted()
}

/** The weight files of a repository; its index has been downloaded if there is one. */
async function weightsOf(snapshot: HubSnapshot, files: ReadonlyMap<string, HubFile>): Promise<HubFile[]> {
  const wanted = await weightFiles(snapshot.folder)
  const missing = wanted.filter((file) => !files.has(file))
  if (missing.length > 0) {
    const other = [...files.keys()].find((file) => /\.(?:bin|pth?|gguf)$/.test(file))
    const rule = other
      ? `has ${other}, not safetensors; choose a repository with safetensors weights`
      : `lacks ${missing[0]}`
    throw new ModelError('repository', `${snapshot.repo}: ${rule}`)
  }
  return wanted.flatMap((file) => files.get(file) ?? [])
}

function checkNames(repo: string, revision: string): void {
  if (!/^[\w.-]+\/[\w.-]+$/.test(repo) || repo.includes('..')) {
    throw new ModelError('option', `model: must be a folder or owner/name[@revision], got ${repo}`)
  }
  if (!/^[\w./-]+$/.test(revision) || revision.includes('..') || revision.startsWith('/')) {
    throw new ModelError('option', `${repo}: revision must be a branch, tag or commit, got ${JSON.stringify(revision)}`)
  }
}

/**
 * The files of a model on the Hugging Face Hub, in the standard cache: config, tokenizer, safetensors weights.
 * `repo`: `owner/name`; `revision`: branch, tag or commit. Interrupted downloads are taken up; every file is checked
 * against the Hub's hash. Without a connection, or with `offline`, a cached model is used. Throws ModelError.
 */
export async function downloadModel(repo: string, revision = 'main', options: HubOptions = {}): Promise<HubSnapshot> {
  checkNames(repo, revision)
  const access = await hubAccess(options)
  const cache = new RepositoryCache(repo, access.cacheDir)
  const cached = await cache.find(revision)
  if (cached && (access.offline || cached.commit === revision)) return cached
  if (access.offline) {
    const rule = `revision ${revision} is not in ${access.cacheDir}, and HF_HUB_OFFLINE forbids to download it`
    throw new ModelError('repository', `${repo}: ${rule}`)
  }
  let commit: string
  try {
    commit = await commitOf(repo, revision, access)
  } catch (error) {
    if (cached && error instanceof ModelError && error.retryable) return cached
    throw error
  }
  const snapshot = cache.snapshot(commit)
  if (!(await isComplete(snapshot.folder))) {
    const files = await rootFiles(repo, commit, access)
    const small = [...files.values()].filter(({ path, size }) => smallFiles.test(path) && size <= maxSmallBytes)
    if (!files.has('config.json'))
      throw new ModelError('repository', `${repo}: has no config.json; it is not a Transformers model`)
    await fetchFiles(small, cache, access, { ...options, onProgress: undefined })
    await fetchFiles(await weightsOf(snapshot, files), cache, access, options)
  }
  await cache.setReference(revision, commit)
  return snapshot
}
