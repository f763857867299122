import type { Conversation } from '../conversation.js'
import { DataError } from '../errors.js'
import { isObject } from '../formats/format.js'
import { readingOf } from '../formats/reading.js'
import type { Reading } from '../formats/reading.js'
import { asRecord } from '../formats/registry.js'
import type { RawRecord } from '../read/raw-record.js'
import type { ChatTokenizer } from '../tokens/chat-tokenizer.js'
import { ConversationRows } from './conversation-rows.js'
import { PairRows } from './pair-rows.js'
import { ChunkBuilder } from './processed-chunk.js'
import type { ProcessedChunk } from './processed-chunk.js'
import type { ProcessSettings, RecordTask, RecordUse } from './record-settings.js'
import { RecordError } from './rules.js'

/** Turns raw records into tokenized rows. The same input gives the same output, on whatever thread it runs. */
export class RecordProcessor {
  private readonly tokenizer: ChatTokenizer
  private readonly settings: ProcessSettings
  private readonly uses = new Map<string, RecordUse>()

  constructor(tokenizer: ChatTokenizer, settings: ProcessSettings) {
    this.tokenizer = tokenizer
    this.settings = settings
  }

  process({ records, firstRecord, fileHash, reading }: RecordTask): ProcessedChunk {
    const use = this.useFor(reading)
    const out = new ChunkBuilder()
    out.counts.records = records.length
    records.forEach((raw, i) => {
      const source = { fileHash, record: firstRecord + i }
      try {
        use.add(asRecord(valueOf(raw)), source, out)
      } catch (error) {
        if (!(error instanceof RecordError)) throw error instanceof DataError ? error : internalError(source, error)
        const where = error.where === undefined ? {} : { where: error.where }
        out.counts.drops.push({ record: source.record, rule: error.rule, ...where })
      }
    })
    return out.build(this.tokenizer.vocabSize)
  }

  private useFor(reading: Reading | undefined): RecordUse {
    const key = JSON.stringify(reading ?? null)
    const known = this.uses.get(key)
    if (known !== undefined) return known
    const { format, mapping, ...rest } = this.settings
    const settings = { ...rest, ...readingOf(reading, { format, mapping }) }
    const made =
      settings.pairs === true ? new PairRows(this.tokenizer, settings) : new ConversationRows(this.tokenizer, settings)
    this.uses.set(key, made)
    return made
  }
}

/** What an unforeseen error says may quote the record; its kind and the place of the record are enough to find it. */
function internalError({ fileHash, record }: Conversation['source'], error: unknown): DataError {
  const kind = error instanceof Error ? error.name : typeof error
  return new DataError(
    'MIRASTRAL_DATA_INTERNAL',
    `internal: record ${record} of the file with SHA-256 ${fileHash.slice(0, 12)}... could not be processed (${kind})`,
  )
}

/** @throws RecordError invalid-utf8 or invalid-json, without the parser's message, which quotes the text. */
export function valueOf(raw: RawRecord): unknown {
  if ('rule' in raw) throw new RecordError(raw.rule)
  if ('value' in raw) return raw.value
  let text: string
  try {
    text = new TextDecoder('utf-8', { fatal: true }).decode(raw.bytes)
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
