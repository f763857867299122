import { createHash } from 'node:crypto'
import { createWriteStream } from 'node:fs'
import { mkdir, readFile, rename, stat, unlink, writeFile } from 'node:fs/promises'
import { homedir } from 'node:os'
import { dirname, join } from 'node:path'
import { Readable, Transform } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { z } from 'zod'
import { DataError, errorCodeOf } from '../errors.js'
import { fileKindOf } from './input-files.js'

export interface HubOptions {
  /** Default: HF_ENDPOINT, else the public Hub. */
  hubUrl?: string
  /** Default: HF_TOKEN. Sent to the Hub only. */
  accessToken?: string
  /** Default: the folder `mirastral/datasets` in XDG_CACHE_HOME or ~/.cache. */
  cacheDir?: string
}

/** `hf:owner/name[@revision][:split]` */
export interface HubReference {
  name: string
  revision: string
  split: string | undefined
}

const listingSchema = z.array(
  z.object({ path: z.string(), size: z.number(), lfs: z.object({ oid: z.string() }).optional() }),
)
type Listing = z.infer<typeof listingSchema>

/** @throws DataError MIRASTRAL_DATA_INPUT where the text is no reference. */
export function parseHubReference(text: string): HubReference {
  const match = /^hf:([\w.-]+\/[\w.-]+)(?:@([\w./-]+))?(?::([\w.-]+))?$/.exec(text)
  if (match === null) {
    throw hubError(`a dataset must be written hf:owner/name[@revision][:split], got ${JSON.stringify(text)}`)
  }
  return { name: match[1], revision: match[2] ?? 'main', split: match[3] }
}

/**
 * Downloads the data files of a Hugging Face dataset (or of one of its splits) and returns their local paths. Files are kept
 * by commit; where the Hub cannot be reached, what an earlier run has kept is used.
 *
 * @throws DataError MIRASTRAL_DATA_INPUT where the dataset or split does not exist, or may not be read.
 */
export async function fetchHubDataset(text: string, options: HubOptions = {}): Promise<string[]> {
  const reference = parseHubReference(text)
  const root = join(options.cacheDir ?? defaultCacheDir(), reference.name.replace('/', '--'))
  const { commit, listing } = await listDataset(reference, root, options)
  const chosen = chooseFiles(listing, reference.split)
  if (chosen.length === 0) {
    const what = reference.split === undefined ? 'no data files' : `no data files of a split "${reference.split}"`
    throw hubError(`${reference.name} has ${what}; it has ${describe(listing)}`)
  }
  const paths: string[] = []
  for (const file of chosen) paths.push(await fetchFile(file, commit, join(root, commit), reference, options))
  return paths
}

/** The commit and files of a revision, from the Hub, or as they were when it last answered. */
async function listDataset(
  { name, revision }: HubReference,
  root: string,
  options: HubOptions,
): Promise<{ commit: string; listing: Listing }> {
  const kept = join(root, `listing-${encodeURIComponent(revision)}.json`)
  const { datasetInfo, listFiles } = await import('@huggingface/hub')
  try {
    const credentials = credentialsOf(options)
    const { sha } = await datasetInfo({ name, revision, additionalFields: ['sha'], ...credentials })
    const listing: Listing = []
    for await (const entry of listFiles({
      repo: { type: 'dataset', name },
      revision: sha,
      recursive: true,
      ...credentials,
    })) {
      if (entry.type === 'file')
        listing.push({ path: entry.path, size: entry.size, ...(entry.lfs && { lfs: entry.lfs }) })
    }
    await mkdir(root, { recursive: true })
    await writeFile(kept, JSON.stringify({ commit: sha, listing }))
    return { commit: sha, listing }
  } catch (error) {
    const status = statusOf(error)
    if (status !== undefined && status < 500) throw refusal(name, revision, status)
    const earlier = await readFile(kept, 'utf8').catch(() => null)
    if (earlier === null) throw hubError(`${name}@${revision} cannot be reached; check the connection and HF_ENDPOINT`)
    return z.object({ commit: z.string(), listing: listingSchema }).parse(JSON.parse(earlier))
  }
}

async function fetchFile(
  file: Listing[number],
  commit: string,
  folder: string,
  { name }: HubReference,
  options: HubOptions,
): Promise<string> {
  const path = join(folder, file.path)
  const have = await stat(path).catch(() => null)
  if (have?.size === file.size) return path
  const { downloadFile } = await import('@huggingface/hub')
  const draft = `${path}.${process.pid}.incomplete`
  try {
    await mkdir(dirname(path), { recursive: true })
    const repo = { type: 'dataset' as const, name }
    const blob = await downloadFile({ repo, path: file.path, revision: commit, ...credentialsOf(options) })
    if (blob === null) throw hubError(`${name} no longer has ${file.path}`)
    const hash = createHash('sha256')
    const hashing = new Transform({
      transform(chunk: Uint8Array, _encoding, done) {
        hash.update(chunk)
        done(null, chunk)
      },
    })
    await pipeline(Readable.fromWeb(blob.stream()), hashing, createWriteStream(draft))
    const { size } = await stat(draft)
    const isWhole = size === file.size && (file.lfs === undefined || file.lfs.oid === hash.digest('hex'))
    if (!isWhole) throw hubError(`${name}: ${file.path} arrived incomplete; run again`)
    await rename(draft, path)
    return path
  } catch (error) {
    await unlink(draft).catch(() => undefined)
    if (error instanceof DataError) throw error
    const status = statusOf(error)
    if (status !== undefined) throw refusal(name, commit, status)
    throw hubError(`${name}: ${file.path} cannot be downloaded (${errorCodeOf(error)})`)
  }
}

const METADATA = /(^|\/)(dataset_infos?|dataset_dict|state|config|metadata)\.json$/i

/** The files of a split by its name in their paths; without one the train split where there is one, else all. */
function chooseFiles(listing: Listing, split: string | undefined): Listing {
  const data = listing.filter(({ path }) => fileKindOf(path) !== undefined && !METADATA.test(path) && isSafe(path))
  const ofSplit = (name: string): Listing =>
    data.filter(({ path }) => new RegExp(`(^|[/._-])${name.replaceAll('.', '\\.')}([/._-]|$)`, 'i').test(path))
  if (split !== undefined) return ofSplit(split)
  const train = ofSplit('train')
  return train.length > 0 ? train : data
}

/** The listing comes from outside, and its paths are joined to a local folder. */
function isSafe(path: string): boolean {
  return !path.startsWith('/') && !path.includes('\\') && !path.split('/').includes('..')
}

function describe(listing: Listing): string {
  const names = listing.map(({ path }) => path).filter((path) => fileKindOf(path) !== undefined)
  return names.length === 0 ? `${listing.length} other files` : names.slice(0, 8).join(', ')
}

function credentialsOf({ hubUrl, accessToken }: HubOptions): { hubUrl?: string; accessToken?: string } {
  const url = hubUrl ?? process.env.HF_ENDPOINT
  const token = accessToken ?? process.env.HF_TOKEN
  return { ...(url === undefined ? {} : { hubUrl: url }), ...(token === undefined ? {} : { accessToken: token }) }
}

function defaultCacheDir(): string {
  return join(process.env.XDG_CACHE_HOME ?? join(homedir(), '.cache'), 'mirastral', 'datasets')
}

function statusOf(error: unknown): number | undefined {
  const status = error instanceof Error && 'statusCode' in error ? error.statusCode : undefined
  return typeof status === 'number' ? status : undefined
}

function refusal(name: string, revision: string, status: number): DataError {
  const hint =
    status === 401 || status === 403
      ? 'it does not exist, or needs a token (HF_TOKEN) that may read it'
      : 'it has no such dataset or revision'
  return hubError(`${name}@${revision}: the Hub answered ${status}: ${hint}`)
}

function hubError(message: string): DataError {
  return new DataError('MIRASTRAL_DATA_INPUT', `dataset: ${message}`)
}
