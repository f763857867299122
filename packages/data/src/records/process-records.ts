import { IGNORE_INDEX } from '../conversation.js'
import type { Conversation, Draft, TokenizedExample } from '../conversation.js'
import { DataError } from '../errors.js'
import { isObject } from '../formats/format.js'
import type { Format } from '../formats/format.js'
import { asRecord, detectFormat } from '../formats/registry.js'
import type { Limits } from '../read/limits.js'
import type { RawRecord } from '../read/raw-record.js'
import type { ChatTokenizer } from '../tokens/chat-tokenizer.js'
import { fitToLength } from '../tokens/fit-to-length.js'
import type { FitOptions } from '../tokens/fit-to-length.js'
import { contentHash, splitPoint } from './fingerprint.js'
import { normalize } from './normalize.js'
import { RecordError } from './rules.js'
import type { Rule } from './rules.js'
import { count } from './tally.js'
import type { Tally } from './tally.js'

/** A record that was not used, for the quarantine report. */
export interface Drop {
  record: number
  rule: Rule
  where?: string
}

/** What was made of some records in a row. Columns rather than objects: chunks cross threads and are cached on disk. */
export interface ProcessedChunk {
  /** How many records went in. */
  records: number
  drops: Drop[]
  /** Records by format, and the reasons for which a format was recognised. */
  formats: Tally
  reasons: Record<string, string>
  adjustments: Tally
  /** Conversations by what was done to make them fit: shortened, cut, split. */
  truncated: Tally
  redacted: Tally
  /** One element per conversation: its content hash (16 bytes each), side of the split, record, number of rows. */
  hashes: Uint8Array
  splitPoints: Float64Array
  recordNumbers: Uint32Array
  rowCounts: Uint32Array
  /** One element per row: its number of tokens. */
  rowLengths: Uint32Array
  /** The tokens of all rows: twice the id, plus one where it is trained on. */
  tokens: Uint32Array
}

export interface ProcessOptions {
  limits: Limits
  fit: FitOptions
  splitSeed: number
  /** The format of all records, instead of detecting each. */
  format?: Format
}

/** Turns raw records into tokenized rows. The same input gives the same output, on whatever thread it runs. */
export function processRecords(
  records: readonly RawRecord[],
  firstRecord: number,
  fileHash: string,
  tokenizer: ChatTokenizer,
  options: ProcessOptions,
): ProcessedChunk {
  const out = new ChunkBuilder()
  records.forEach((raw, i) => {
    const record = firstRecord + i
    try {
      for (const draft of draftsOf(raw, options, out)) addConversation(draft, record, fileHash, tokenizer, options, out)
    } catch (error) {
      if (!(error instanceof RecordError)) throw error
      out.drops.push({ record, rule: error.rule, ...(error.where === undefined ? {} : { where: error.where }) })
    }
  })
  return out.build(records.length)
}

function draftsOf(raw: RawRecord, options: ProcessOptions, out: ChunkBuilder): Draft[] {
  if ('rule' in raw) throw new RecordError(raw.rule)
  const record = asRecord('bytes' in raw ? parseBytes(raw.bytes) : raw.value)
  if (options.format !== undefined) {
    count(out.formats, options.format.name)
    return options.format.reformat(record)
  }
  const detected = detectFormat(record)
  if (detected === null) throw new RecordError('unknown-format')
  count(out.formats, detected.format.name)
  out.reasons[detected.format.name] ??= `${detected.reason} (confidence ${detected.confidence})`
  return detected.format.reformat(record)
}

const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: false })

function parseBytes(bytes: Uint8Array): unknown {
  let text: string
  try {
    text = utf8.decode(bytes)
  } catch {
    throw new RecordError('invalid-utf8')
  }
  try {
    const value: unknown = JSON.parse(text)
    return isObject(value) || Array.isArray(value) ? value : null
  } catch {
    throw new RecordError('invalid-json')
  }
}

function addConversation(
  raw: Draft,
  record: number,
  fileHash: string,
  tokenizer: ChatTokenizer,
  options: ProcessOptions,
  out: ChunkBuilder,
): void {
  const textBesideToolCalls = tokenizer.template.textBesideToolCalls
  const { draft, adjustments } = normalize(raw, { limits: options.limits, textBesideToolCalls })
  const conversation: Conversation = { ...draft, source: { fileHash, record } }
  const fitted = fit(tokenizer, conversation, options.fit)
  if (fitted.changed === 'dropped') throw new RecordError('too-long')
  if (fitted.examples.length === 0)
    throw new RecordError(fitted.changed === 'no' ? 'nothing-to-train-on' : 'truncated-away')
  for (const adjustment of adjustments) count(out.adjustments, adjustment)
  if (fitted.changed !== 'no') count(out.truncated, fitted.changed)
  out.addConversation(contentHash(draft), splitPoint(draft, options.splitSeed), record, fitted.examples)
}

function fit(
  tokenizer: ChatTokenizer,
  conversation: Conversation,
  options: FitOptions,
): ReturnType<typeof fitToLength> {
  try {
    return fitToLength(tokenizer, conversation, options)
  } catch (error) {
    if (error instanceof DataError && error.code === 'MIRASTRAL_DATA_TEMPLATE')
      throw new RecordError('template-refuses')
    throw error
  }
}

class ChunkBuilder {
  readonly drops: Drop[] = []
  readonly formats: Tally = {}
  readonly reasons: Record<string, string> = {}
  readonly adjustments: Tally = {}
  readonly truncated: Tally = {}
  readonly redacted: Tally = {}
  private readonly hashes: string[] = []
  private readonly splitPoints: number[] = []
  private readonly recordNumbers: number[] = []
  private readonly rowCounts: number[] = []
  private readonly rows: TokenizedExample[] = []

  addConversation(hash: string, splitPoint: number, record: number, rows: readonly TokenizedExample[]): void {
    this.hashes.push(hash)
    this.splitPoints.push(splitPoint)
    this.recordNumbers.push(record)
    this.rowCounts.push(rows.length)
    this.rows.push(...rows)
  }

  build(records: number): ProcessedChunk {
    const rowLengths = Uint32Array.from(this.rows, (row) => row.inputIds.length)
    const tokens = new Uint32Array(rowLengths.reduce((sum, length) => sum + length, 0))
    let at = 0
    for (const { inputIds, labels } of this.rows) {
      for (let i = 0; i < inputIds.length; i++) tokens[at++] = inputIds[i] * 2 + (labels[i] === IGNORE_INDEX ? 0 : 1)
    }
    const { drops, formats, reasons, adjustments, truncated, redacted } = this
    return {
      ...{ records, drops, formats, reasons, adjustments, truncated, redacted },
      hashes: Buffer.from(this.hashes.join(''), 'hex'),
      splitPoints: Float64Array.from(this.splitPoints),
      recordNumbers: Uint32Array.from(this.recordNumbers),
      rowCounts: Uint32Array.from(this.rowCounts),
      rowLengths,
      tokens,
    }
  }
}
