import type { Conversation, Draft } from '../conversation.js'
import { DataError } from '../errors.js'
import { isObject } from '../formats/format.js'
import type { Format } from '../formats/format.js'
import { formatOfMapping } from '../formats/mapping.js'
import type { ResolvedMapping } from '../formats/mapping.js'
import { asRecord, detectFormat, formatNamed } from '../formats/registry.js'
import type { Limits } from '../read/limits.js'
import type { RawRecord } from '../read/raw-record.js'
import type { ChatTokenizer } from '../tokens/chat-tokenizer.js'
import { fitToLength } from '../tokens/fit-to-length.js'
import type { FitOptions, Fitted } from '../tokens/fit-to-length.js'
import { trainsAsServed } from '../tokens/serving.js'
import { contentHash, splitPoint } from './fingerprint.js'
import { SIGNATURE_BYTES, signatureOf } from './min-hash.js'
import { normalize } from './normalize.js'
import { ChunkBuilder } from './processed-chunk.js'
import type { ProcessedChunk } from './processed-chunk.js'
import { Redactor } from './redact.js'
import type { RedactionOptions } from './redact.js'
import { RecordError } from './rules.js'
import { count } from './tally.js'

/** Everything that decides what becomes of a record, as plain JSON: it goes to other threads and into the cache's key. */
export interface ProcessSettings {
  limits: Limits
  fit: FitOptions
  splitSeed: number
  /** Whether signatures for near-duplicates are computed. */
  signatures: boolean
  /** One format for all records, instead of detecting each: by name, or the user's own. */
  format?: string
  mapping?: ResolvedMapping
  redaction?: RedactionOptions
}

/** Turns raw records into tokenized rows. The same input gives the same output, on whatever thread it runs. */
export class RecordProcessor {
  private readonly tokenizer: ChatTokenizer
  private readonly settings: ProcessSettings
  private readonly format: Format | undefined
  private readonly redactor: Redactor | undefined

  constructor(tokenizer: ChatTokenizer, settings: ProcessSettings) {
    this.tokenizer = tokenizer
    this.settings = settings
    this.format = fixedFormat(settings)
    this.redactor = settings.redaction === undefined ? undefined : new Redactor(settings.redaction)
  }

  /** @param firstRecord the number of the first record in its file, from 0. */
  process(records: readonly RawRecord[], firstRecord: number, fileHash: string): ProcessedChunk {
    const out = new ChunkBuilder()
    out.counts.records = records.length
    records.forEach((raw, i) => {
      const source = { fileHash, record: firstRecord + i }
      try {
        for (const draft of this.draftsOf(raw, out)) this.add({ ...draft, source }, out)
      } catch (error) {
        if (!(error instanceof RecordError)) throw error instanceof DataError ? error : internalError(source, error)
        const where = error.where === undefined ? {} : { where: error.where }
        out.counts.drops.push({ record: source.record, rule: error.rule, ...where })
      }
    })
    return out.build(this.tokenizer.vocabSize)
  }

  private draftsOf(raw: RawRecord, out: ChunkBuilder): Draft[] {
    const record = asRecord(valueOf(raw))
    const { formats, reasons } = out.counts
    if (this.format !== undefined) {
      count(formats, this.format.name)
      return this.format.reformat(record)
    }
    const detected = detectFormat(record)
    if (detected === null) throw new RecordError('unknown-format')
    const { format, reason, confidence } = detected
    count(formats, format.name)
    reasons[format.name] ??= `${reason} (confidence ${confidence})`
    return format.reformat(record)
  }

  private add(conversation: Conversation, out: ChunkBuilder): void {
    const { limits, fit, splitSeed, signatures } = this.settings
    const textBesideToolCalls = this.tokenizer.template.textBesideToolCalls
    const { draft, adjustments } = normalize(conversation, { limits, textBesideToolCalls })
    const clean = this.redactor?.redact(draft, out.counts.redacted) ?? draft
    const fitted = this.fit({ ...clean, source: conversation.source }, fit)
    if (fitted.changed === 'dropped') throw new RecordError('too-long')
    if (fitted.examples.length === 0) {
      throw new RecordError(fitted.changed === 'no' ? 'nothing-to-train-on' : 'truncated-away')
    }
    if (!trainsAsServed(this.tokenizer, { ...clean, source: conversation.source })) out.counts.servingDiffers++
    for (const adjustment of adjustments) count(out.counts.adjustments, adjustment)
    if (fitted.changed !== 'no') count(out.counts.truncated, fitted.changed)
    const signature = signatures ? signatureOf(clean.turns) : new Uint8Array(SIGNATURE_BYTES)
    out.add(contentHash(clean), signature, splitPoint(clean, splitSeed), fitted.examples)
  }

  private fit(conversation: Conversation, options: FitOptions): Fitted {
    try {
      return fitToLength(this.tokenizer, conversation, options)
    } catch (error) {
      const isRefusal = error instanceof DataError && error.code === 'MIRASTRAL_DATA_TEMPLATE'
      throw isRefusal ? new RecordError('template-refuses') : error
    }
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

function fixedFormat({ format, mapping }: ProcessSettings): Format | undefined {
  if (mapping !== undefined) return formatOfMapping(mapping)
  return format === undefined ? undefined : formatNamed(format)
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
