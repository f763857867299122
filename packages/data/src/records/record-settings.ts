import type { Source } from '../conversation.js'
import { DataError } from '../errors.js'
import type { Detection, Format, JsonObject } from '../formats/format.js'
import type { Reading } from '../formats/reading.js'
import type { RawRecord } from '../read/raw-record.js'
import type { Limits } from '../read/limits.js'
import type { FitOptions } from '../tokens/fit-to-length.js'
import type { ChunkBuilder } from './processed-chunk.js'
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
  /** Records are preference pairs, of two rows each: the chosen one, then the rejected one. */
  pairs?: true
  /** One format for all records, instead of detecting each: by name, or the user's own. */
  format?: Reading['format']
  mapping?: Reading['mapping']
  redaction?: RedactionOptions
}

/** Some records in a row of one file. */
export interface RecordTask {
  records: readonly RawRecord[]
  /** The number of the first record in its file, from 0. */
  firstRecord: number
  fileHash: string
  /** Of the file, instead of that of the settings. */
  reading?: Reading
}

/** What becomes of a record. */
export interface RecordUse {
  /** @throws RecordError where the record cannot be used. */
  add(record: JsonObject, source: Source, out: ChunkBuilder): void
}

/** The fixed format, else the detected one; counts it, and why. */
export function formatFor<T extends Format>(
  fixed: T | undefined,
  detect: () => (Detection & { format: T }) | null,
  { counts: { formats, reasons } }: ChunkBuilder,
): T | null {
  if (fixed !== undefined) {
    count(formats, fixed.name)
    return fixed
  }
  const detected = detect()
  if (detected === null) return null
  const { format, reason, confidence } = detected
  count(formats, format.name)
  reasons[format.name] ??= `${reason} (confidence ${confidence})`
  return format
}

/** What a chat template refuses is a broken record, not a broken run. */
export function orRefused<T>(tokenize: () => T): T {
  try {
    return tokenize()
  } catch (error) {
    const isRefusal = error instanceof DataError && error.code === 'MIRASTRAL_DATA_TEMPLATE'
    throw isRefusal ? new RecordError('template-refuses') : error
  }
}
