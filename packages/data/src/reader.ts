import type { Conversation, PreferenceConversation, Source } from './conversation.js'
import { formatOfMapping, mappingSchema } from './formats/mapping.js'
import type { Mapping } from './formats/mapping.js'
import { asRecord, detectFormat, detectPairFormat, formatNamed } from './formats/registry.js'
import { isPairFormat } from './formats/format.js'
import type { Format, JsonObject } from './formats/format.js'
import { DataError } from './errors.js'
import { FileError } from './read/file-problems.js'
import { identify, requireUnchanged } from './read/hash-file.js'
import { listInputFiles } from './read/input-files.js'
import { DEFAULT_LIMITS } from './read/limits.js'
import type { Limits } from './read/limits.js'
import { readRecords } from './read/read-records.js'
import { isSameAnswer } from './records/fingerprint.js'
import { normalizePair } from './records/normalize-pair.js'
import { normalize } from './records/normalize.js'
import type { NormalizeOptions } from './records/normalize.js'
import type { Drop } from './records/processed-chunk.js'
import { valueOf } from './records/record-processor.js'
import { RecordError } from './records/rules.js'

export interface ReaderOptions {
  format?: string
  mapping?: Mapping
  encoding?: string
  limits?: Partial<Limits>
  /** Called for a record that is not used. Without it such records are left out. */
  onDrop?: (path: string, drop: Drop) => void
}

/** Conversations of files and folders without tokenizing them: one at a time, whatever the size of the file. */
export class ConversationReader {
  private readonly options: ReaderOptions
  private readonly limits: Limits
  private readonly format: Format | undefined

  /** @throws DataError MIRASTRAL_DATA_OPTION for a format or mapping that does not exist. */
  constructor(options: ReaderOptions = {}) {
    this.options = options
    this.limits = { ...DEFAULT_LIMITS, ...options.limits }
    this.format = chosenFormat(options)
  }

  /** @throws DataError MIRASTRAL_DATA_INPUT where an input does not exist, or a file cannot be read to its end. */
  async *read(inputs: readonly string[]): AsyncGenerator<Conversation> {
    yield* this.readWith(inputs, (record, source) => this.conversationsOf(record, source))
  }

  /** Preference pairs instead of conversations. Throws as `read` does. */
  async *readPreferences(inputs: readonly string[]): AsyncGenerator<PreferenceConversation> {
    yield* this.readWith(inputs, (record, source) => this.preferencesOf(record, source))
  }

  private async *readWith<T>(
    inputs: readonly string[],
    made: (record: JsonObject, source: Source) => T[],
  ): AsyncGenerator<T> {
    const { files, unreadable } = await listInputFiles(inputs)
    if (unreadable.length > 0) throw readError(unreadable[0].path, new FileError('unreadable', unreadable[0].detail))
    const { encoding } = this.options
    const options = { limits: this.limits, ...(encoding === undefined ? {} : { encoding }) }
    for (const file of files) {
      try {
        const identity = await identify(file.path)
        let record = 0
        for await (const records of readRecords(file, options)) {
          for (const raw of records) {
            const source = { fileHash: identity.sha256, record: record++ }
            yield* this.orDropped(file.path, source, () => made(asRecord(valueOf(raw)), source))
          }
        }
        await requireUnchanged(file.path, identity)
      } catch (error) {
        throw error instanceof FileError ? readError(file.path, error) : error
      }
    }
  }

  private conversationsOf(record: JsonObject, source: Source): Conversation[] {
    const format = this.format ?? detectFormat(record)?.format
    if (format === undefined) throw new RecordError('unknown-format')
    return format.reformat(record).map((draft) => ({ ...normalize(draft, this.normalizing).draft, source }))
  }

  private preferencesOf(record: JsonObject, source: Source): PreferenceConversation[] {
    const format: Format | undefined = this.format ?? detectPairFormat(record)?.format
    if (format === undefined || !isPairFormat(format)) throw new RecordError('not-a-pair')
    return format.pairs(record).map((draft) => {
      const pair = normalizePair(draft, this.normalizing).draft
      if (isSameAnswer(pair.chosen, pair.rejected)) throw new RecordError('same-answers')
      return { ...pair, source }
    })
  }

  private get normalizing(): NormalizeOptions {
    return { limits: this.limits, textBesideToolCalls: true }
  }

  private orDropped<T>(path: string, { record }: Source, made: () => T[]): T[] {
    try {
      return made()
    } catch (error) {
      if (!(error instanceof RecordError)) throw error
      const where = error.where === undefined ? {} : { where: error.where }
      this.options.onDrop?.(path, { record, rule: error.rule, ...where })
      return []
    }
  }
}

function chosenFormat({ format, mapping }: ReaderOptions): Format | undefined {
  if (mapping !== undefined) {
    const parsed = mappingSchema.safeParse(mapping)
    if (!parsed.success)
      throw new DataError(
        'MIRASTRAL_DATA_OPTION',
        'reader: mapping must name user and assistant, or turns, role and content',
      )
    return formatOfMapping(parsed.data)
  }
  if (format === undefined) return undefined
  const named = formatNamed(format)
  if (named === undefined)
    throw new DataError('MIRASTRAL_DATA_OPTION', `reader: format must be a known one, got ${format}`)
  return named
}

function readError(path: string, error: FileError): DataError {
  return new DataError('MIRASTRAL_DATA_INPUT', `data: ${path}: ${error.message}`)
}
