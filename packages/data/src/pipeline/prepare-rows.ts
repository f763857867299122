import { createHash } from 'node:crypto'
import { DataError } from '../errors.js'
import { resolveInputs } from '../formats/reading.js'
import type { DataInput, ResolvedInput } from '../formats/reading.js'
import type { Ledger } from '../ledger/ledger.js'
import type { DataOptions, ResolvedDataOptions } from '../options.js'
import { FILE_PROBLEMS } from '../read/file-problems.js'
import { fetchHubDataset } from '../read/hub-dataset.js'
import type { HubOptions } from '../read/hub-dataset.js'
import { listInputFiles } from '../read/input-files.js'
import { Quarantine } from '../records/quarantine.js'
import type { ProcessSettings } from '../records/record-settings.js'
import { reportOf } from '../report.js'
import type { DataReport, FileReport } from '../report.js'
import { Dataset } from '../rows/dataset.js'
import type { Examples } from '../rows/example-rows.js'
import { Storage } from '../rows/storage.js'
import { ChatTokenizer } from '../tokens/chat-tokenizer.js'
import { entriesOf } from './ledger-entries.js'
import type { RunRecord } from './ledger-entries.js'
import { requireSame } from './manifest.js'
import type { DataManifest } from './manifest.js'
import { createPool } from './process-pool.js'
import { identifyFiles, readFiles } from './read-files.js'
import type { IdentifiedFile } from './read-files.js'

export interface PrepareRequest {
  /**
   * Folders, files, and datasets of the Hugging Face Hub (`hf:owner/name[@revision][:split]`): paths, or
   * `{ path, format, mapping, encoding }` for one that is read in its own way.
   */
  inputs: readonly DataInput[]
  /** The tokenizer, or the folder of one. */
  tokenizer: ChatTokenizer | string
  /** Files that it knows are not read again, and conversations that it knows are duplicates. */
  ledger?: Ledger
  options?: DataOptions
  /**
   * A folder in which tokens are kept between runs; it may be deleted at any time. Default: tokens stay in
   * memory, and in a temporary file where they are many.
   */
  cacheDir?: string
  /** A file for the list of what was not used: rules and places, and no text. */
  quarantine?: string
  /** The manifest that the run to be resumed had: the same rows in the same order are made again. */
  manifest?: DataManifest
  hub?: HubOptions
}

/** What a preparation gives beside its rows. */
export interface Prepared {
  report: DataReport
  tokenizer: ChatTokenizer
  /** Tokens of a row at most. */
  maxLength: number
  /** To be kept with a checkpoint. */
  manifest: DataManifest
  /** Writes the files and conversations of this run into the ledger. To be called once the result of the training is safe. */
  commit(run?: RunRecord): Promise<void>
  /** Closes the files that rows are read from. */
  close(): void
}

export interface PreparedRows extends Prepared {
  train: Examples
  eval: Examples
}

/** About what a conversation takes in a file. */
const BYTES_PER_CONVERSATION = 1024
const MAX_EXPECTED = 1 << 23

/** Reads files into rows. `pairs`: of preferences, two rows each, instead of conversations. */
export async function prepareRows(
  request: PrepareRequest,
  options: ResolvedDataOptions,
  pairs: boolean,
): Promise<PreparedRows> {
  const { ledger } = request
  const tokenizer =
    typeof request.tokenizer === 'string' ? await ChatTokenizer.fromFolder(request.tokenizer) : request.tokenizer
  const settings = settingsOf(options, pairs)
  const listed = await listInputFiles(
    await localInputs(resolveInputs(request.inputs, pairs), request.hub),
    [ledger?.path, request.quarantine].filter((path) => path !== undefined),
  )
  const { toRead, reports } = await identifyFiles(listed, ledger, request.manifest)
  const storage = await Storage.create(request.cacheDir)
  const bytes = toRead.reduce((sum, { identity }) => sum + identity.size, 0)
  const expected = Math.min(bytes / BYTES_PER_CONVERSATION, MAX_EXPECTED)
  const dataset = new Dataset({ ...options, rowsPerExample: pairs ? 2 : 1 }, storage.memory, expected)
  try {
    for await (const known of ledger?.fingerprints() ?? []) dataset.know(known)
    await readInto(dataset, { toRead, reports, request, options, settings, tokenizer, storage })
    const manifest = manifestOf(toRead, dataset, tokenizer, settings, options)
    if (request.manifest !== undefined) requireSame(request.manifest, manifest)
    const report = reportOf(reports, dataset, listed.ignored, tokenizer.notes, ledger?.found ?? null)
    return {
      ...{ train: dataset.train, eval: dataset.eval, report, tokenizer, manifest, maxLength: options.maxLength },
      commit: async (run = {}) => {
        const entries = report.files.flatMap((file) => entriesOf(file, run))
        await ledger?.append(entries, dataset.fingerprints())
      },
      close: () => storage.close(),
    }
  } catch (error) {
    storage.close()
    throw error
  }
}

function manifestOf(
  toRead: readonly IdentifiedFile[],
  dataset: Dataset,
  tokenizer: ChatTokenizer,
  settings: ProcessSettings,
  options: ResolvedDataOptions,
): DataManifest {
  const own = toRead.filter(({ file }) => file.reading !== undefined)
  const readings = own.map(({ file, identity }) => [identity.sha256, file.reading])
  return {
    version: 1,
    files: toRead
      .filter(({ report }) => report.status === 'used')
      .map(({ report: { path, sha256 } }) => ({ path, sha256 })),
    tokenizer: tokenizer.hash,
    settings: createHash('sha256')
      .update(JSON.stringify([settings, options.duplicates, options.evalFraction, ...readings]))
      .digest('hex'),
    conversations: dataset.contentHash(),
  }
}

interface ReadJob {
  toRead: readonly IdentifiedFile[]
  reports: readonly FileReport[]
  request: PrepareRequest
  options: ResolvedDataOptions
  settings: ProcessSettings
  tokenizer: ChatTokenizer
  storage: Storage
}

async function readInto(dataset: Dataset, job: ReadJob): Promise<void> {
  const { toRead, reports, request, options, settings, tokenizer, storage } = job
  const bytes = toRead.reduce((sum, { identity }) => sum + identity.size, 0)
  const pool = createPool(tokenizer, settings, options.threads, bytes)
  const { encoding, format, mapping, limits } = options
  const quarantine = request.quarantine === undefined ? undefined : await Quarantine.create(request.quarantine)
  try {
    const read = { limits, reading: { encoding, format, mapping } }
    const cacheParts = [tokenizer.hash, settings, encoding ?? null]
    await readFiles(toRead, { pool, read, ...storage.forTokens, cacheParts }, dataset, quarantine)
    for (const { path, problem, detail } of reports) {
      if (problem !== undefined) await quarantine?.addFile(path, problem, detail)
    }
    if (options.strict) requireReadable(reports)
    await quarantine?.close()
  } catch (error) {
    await quarantine?.discard()
    throw error
  } finally {
    await pool.close()
  }
}

function settingsOf(options: ResolvedDataOptions, pairs: boolean): ProcessSettings {
  const { limits, maxLength, truncation, trainOn, trainOnToolCalls, splitSeed, format, mapping, redact } = options
  return {
    limits,
    fit: { maxLength, truncation, trainOn, trainOnToolCalls },
    splitSeed,
    signatures: options.duplicates === 'near',
    ...(pairs ? { pairs } : {}),
    ...(format === undefined ? {} : { format }),
    ...(mapping === undefined ? {} : { mapping }),
    ...(redact === false ? {} : { redaction: redact }),
  }
}

async function localInputs(inputs: readonly ResolvedInput[], hub: HubOptions | undefined): Promise<ResolvedInput[]> {
  const local: ResolvedInput[] = []
  for (const input of inputs) {
    if (!input.path.startsWith('hf:')) local.push(input)
    else local.push(...(await fetchHubDataset(input.path, hub)).map((path) => ({ ...input, path })))
  }
  return local
}

function requireReadable(reports: readonly FileReport[]): void {
  const failed = reports.filter(({ problem }) => problem !== undefined)
  if (failed.length === 0) return
  const [{ path, problem = 'unreadable' }] = failed
  throw new DataError(
    'MIRASTRAL_DATA_INPUT',
    `data: ${failed.length} of ${reports.length} files cannot be used, and strict is set; the first, ${path}, ${FILE_PROBLEMS[problem]}`,
  )
}
