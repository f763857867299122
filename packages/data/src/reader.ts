import type { Conversation, PreferenceConversation, Source } from './conversation.js'
import { asRecord, detectFormat, detectPairFormat } from './formats/registry.js'
import type { JsonObject } from './formats/format.js'
import { fixedFormat, fixedPairFormat, readingOf, resolveInputs } from './formats/reading.js'
import type { DataInput, Reading } from './formats/reading.js'
import { resolveOptions } from './options.js'
import type { DataOptions } from './options.js'
import { DataError } from './errors.js'
import { FileError } from './read/file-problems.js'
import { identify, requireUnchanged } from './read/hash-file.js'
import { listInputFiles } from './read/input-files.js'
import type { Limits } from './read/limits.js'
import { readRecords } from './read/read-records.js'
import { isSameAnswer } from './records/fingerprint.js'
import { normalizePair } from './records/normalize-pair.js'
import { normalize } from './records/normalize.js'
import type { NormalizeOptions } from './records/normalize.js'
import type { Drop } from './records/processed-chunk.js'
import { valueOf } from './records/record-processor.js'
import { RecordError } from './records/rules.js'

export interface ReaderOptions extends Pick<DataOptions, 'format' | 'mapping' | 'encoding' | 'limits'> {
  /** Called for a record that is not used. Without it such records are left out. */
  onDrop?: (path: string, drop: Drop) => void
}

/** Conversations of files and folders without tokenizing them: one at a time, whatever the size of the file. */
export class ConversationReader {
  private readonly onDrop: ReaderOptions['onDrop']
  private readonly limits: Limits
  private readonly reading: Reading

  /** @throws DataError MIRASTRAL_DATA_OPTION for a format, mapping or encoding that does not exist. */
  constructor(options: ReaderOptions = {}) {
    const { onDrop, ...reading } = options
    this.onDrop = onDrop
    const { limits, encoding, format, mapping } = resolveOptions(reading)
    this.limits = limits
    this.reading = { encoding, format, mapping }
  }

  /** @throws DataError MIRASTRAL_DATA_INPUT where an input does not exist, or a file cannot be read to its end. */
  async *read(inputs: readonly DataInput[]): AsyncGenerator<Conversation> {
    yield* this.readWith(inputs, false, (...record) => this.conversationsOf(...record))
  }

  /** Preference pairs instead of conversations. Throws as `read` does. */
  async *readPreferences(inputs: readonly DataInput[]): AsyncGenerator<PreferenceConversation> {
    yield* this.readWith(inputs, true, (...record) => this.preferencesOf(...record))
  }

  private async *readWith<T>(
    inputs: readonly DataInput[],
    pairs: boolean,
    made: (record: JsonObject, source: Source, reading: Reading) => T[],
  ): AsyncGenerator<T> {
    const { files, unreadable } = await listInputFiles(resolveInputs(inputs, pairs))
    if (unreadable.length > 0) throw readError(unreadable[0].path, new FileError('unreadable', unreadable[0].detail))
    for (const file of files) {
      const reading = readingOf(file.reading, this.reading)
      try {
        const identity = await identify(file.path)
        let record = 0
        for await (const records of readRecords(file, { limits: this.limits, reading })) {
          for (const raw of records) {
            const source = { fileHash: identity.sha256, record: record++ }
            yield* this.orDropped(file.path, source, () => made(asRecord(valueOf(raw)), source, reading))
          }
        }
        await requireUnchanged(file.path, identity)
      } catch (error) {
        throw error instanceof FileError ? readError(file.path, error) : error
      }
    }
  }

  private conversationsOf(record: JsonObject, source: Source, reading: Reading): Conversation[] {
    const format = fixedFormat(reading) ?? detectFormat(record)?.format
    if (format === undefined) throw new RecordError('unknown-format')
    return format.reformat(record).map((draft) => ({ ...normalize(draft, this.normalizing).draft, source }))
  }

  private preferencesOf(record: JsonObject, source: Source, reading: Reading): PreferenceConversation[] {
    const format = fixedPairFormat(reading) ?? detectPairFormat(record)?.format
    if (format === undefined) throw new RecordError('not-a-pair')
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
      this.onDrop?.(path, { record, rule: error.rule, ...where })
      return []
    }
  }
}

function readError(path: string, error: FileError): DataError {
  return new DataError('MIRASTRAL_DATA_INPUT', `data: ${path}: ${error.message}`)
}
