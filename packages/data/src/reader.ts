import type { Conversation } from './conversation.js'
import { formatOfMapping, mappingSchema } from './formats/mapping.js'
import type { Mapping } from './formats/mapping.js'
import { asRecord, detectFormat, formatNamed } from './formats/registry.js'
import type { Format } from './formats/format.js'
import { DataError } from './errors.js'
import { FileError } from './read/file-problems.js'
import { identify, requireUnchanged } from './read/hash-file.js'
import { listInputFiles } from './read/input-files.js'
import { DEFAULT_LIMITS } from './read/limits.js'
import type { Limits } from './read/limits.js'
import { readRecords } from './read/read-records.js'
import { normalize } from './records/normalize.js'
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
            yield* this.conversationsOf(raw, source, file.path)
          }
        }
        await requireUnchanged(file.path, identity)
      } catch (error) {
        throw error instanceof FileError ? readError(file.path, error) : error
      }
    }
  }

  private *conversationsOf(
    raw: Parameters<typeof valueOf>[0],
    source: Conversation['source'],
    path: string,
  ): Generator<Conversation> {
    try {
      const record = asRecord(valueOf(raw))
      const format = this.format ?? detectFormat(record)?.format
      if (format === undefined) throw new RecordError('unknown-format')
      for (const draft of format.reformat(record)) {
        yield { ...normalize(draft, { limits: this.limits, textBesideToolCalls: true }).draft, source }
      }
    } catch (error) {
      if (!(error instanceof RecordError)) throw error
      const where = error.where === undefined ? {} : { where: error.where }
      this.options.onDrop?.(path, { record: source.record, rule: error.rule, ...where })
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
