import { Dataset } from './dataset.js'
import type { Examples } from './example-rows.js'
import { formatNamed } from './formats/registry.js'
import type { LedgerEntry } from './ledger/entry.js'
import type { Ledger } from './ledger/ledger.js'
import { resolveOptions } from './options.js'
import type { DataOptions, ResolvedDataOptions } from './options.js'
import { FileError } from './read/file-problems.js'
import { identify, requireUnchanged } from './read/hash-file.js'
import { listInputFiles } from './read/input-files.js'
import type { InputFile } from './read/input-files.js'
import { readRecords } from './read/read-records.js'
import { processRecords } from './records/process-records.js'
import type { ProcessOptions } from './records/process-records.js'
import { emptyFileReport } from './report.js'
import type { DataReport, FileReport } from './report.js'
import { ChatTokenizer } from './tokens/chat-tokenizer.js'

export interface PrepareRequest {
  /** Folders and files. */
  inputs: readonly string[]
  /** The tokenizer, or the folder of one. */
  tokenizer: ChatTokenizer | string
  /** Files that it knows are not read again; without one every file is read. */
  ledger?: Ledger
  options?: DataOptions
}

/** What a training run reports back, for the ledger. */
export interface RunRecord {
  /** The first and last optimizer step that saw the data, counted from 1. */
  steps?: readonly [number, number]
  adapter?: string
}

export interface PreparedData {
  train: Examples
  eval: Examples
  report: DataReport
  tokenizer: ChatTokenizer
  /** Writes the files of this run into the ledger. To be called once the result of the training is safe. */
  commit(run?: RunRecord): Promise<void>
}

/**
 * Reads conversation files into tokenized train and eval rows. Broken records and files are counted and left out; nothing
 * is written until `commit`.
 *
 * @throws DataError for inputs that do not exist, an unusable tokenizer, or wrong options.
 */
export async function prepareDataset(request: PrepareRequest): Promise<PreparedData> {
  const options = resolveOptions(request.options ?? {})
  const tokenizer =
    typeof request.tokenizer === 'string' ? await ChatTokenizer.fromFolder(request.tokenizer) : request.tokenizer
  const listed = await listInputFiles(request.inputs, request.ledger === undefined ? [] : [request.ledger.path])
  const dataset = new Dataset(options)
  for (const { path, problem, detail } of listed.unreadable) {
    dataset.files.push({ ...emptyFileReport(path, 'failed'), problem, detail })
  }
  for (const file of listed.files) await addFile(file, dataset, tokenizer, options, request.ledger)
  const report = dataset.report(listed.ignored, request.ledger?.found ?? null)
  return {
    train: dataset.train,
    eval: dataset.eval,
    report,
    tokenizer,
    commit: async (run = {}) => request.ledger?.append(report.files.flatMap((file) => entryOf(file, run))),
  }
}

async function addFile(
  file: InputFile,
  dataset: Dataset,
  tokenizer: ChatTokenizer,
  options: ResolvedDataOptions,
  ledger: Ledger | undefined,
): Promise<void> {
  const report = emptyFileReport(file.path, 'used')
  const mark = dataset.mark()
  try {
    const identity = await identify(file.path)
    report.sha256 = identity.sha256
    report.size = identity.size
    if (dataset.hasFile(identity.sha256)) report.status = 'same-content'
    else if (ledger?.processed(identity.sha256, file.path) !== undefined) report.status = 'processed'
    else {
      await readFile(file, dataset, tokenizer, options, report)
      await requireUnchanged(file.path, identity)
    }
    dataset.files.push(report)
  } catch (error) {
    if (!(error instanceof FileError)) throw error
    dataset.rollBack(mark)
    const failed = emptyFileReport(file.path, 'failed')
    const { problem, detail } = error
    dataset.files.push({ ...failed, size: report.size, sha256: report.sha256, problem, ...(detail && { detail }) })
  }
}

async function readFile(
  file: InputFile,
  dataset: Dataset,
  tokenizer: ChatTokenizer,
  options: ResolvedDataOptions,
  report: FileReport,
): Promise<void> {
  const { maxLength, truncation, trainOn, trainOnToolCalls, limits, splitSeed } = options
  const format = options.format === undefined ? undefined : formatNamed(options.format)
  const process: ProcessOptions = {
    limits,
    splitSeed,
    fit: { maxLength, truncation, trainOn, trainOnToolCalls },
    ...(format === undefined ? {} : { format }),
  }
  const read = { limits, ...(options.encoding === undefined ? {} : { encoding: options.encoding }) }
  for await (const records of readRecords(file, read)) {
    dataset.add(processRecords(records, report.read, report.sha256, tokenizer, process), report)
  }
}

function entryOf(file: FileReport, run: RunRecord): LedgerEntry[] {
  if (file.status === 'processed' || file.status === 'same-content') return []
  return [
    {
      version: 1,
      status: file.status === 'used' ? 'processed' : 'failed',
      path: file.path,
      size: file.size,
      sha256: file.sha256 === '' ? null : file.sha256,
      time: new Date().toISOString(),
      formats: file.formats,
      rows: { read: file.read, used: file.used, dropped: file.dropped, duplicates: file.duplicates },
      steps: run.steps === undefined ? null : [run.steps[0], run.steps[1]],
      adapter: run.adapter ?? null,
      ...(file.problem === undefined ? {} : { problem: file.problem }),
    },
  ]
}
