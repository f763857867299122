import type { JsonObject } from '../formats/format.js'
import { fixedFormat } from '../formats/reading.js'
import type { Reading } from '../formats/reading.js'
import { detectFormat } from '../formats/registry.js'
import type { InputFile } from './input-files.js'
import { openText } from './open-bytes.js'
import type { Limits } from './limits.js'
import type { RawRecord } from './raw-record.js'
import { readCsv } from './read-csv.js'
import { readParquet } from './read-parquet.js'
import { readJson, readJsonLines } from './read-json.js'

/** Records that are handed out at a time. */
const MAX_RECORDS = 1024

export interface ReadOptions {
  limits: Limits
  /** What is known of the file: its encoding where it is not UTF-8, and the format of its records. */
  reading?: Reading
}

/**
 * The records of a file in order, some at a time; memory does not grow with the file.
 *
 * @throws FileError where the file cannot be read to its end.
 */
export async function* readRecords(file: InputFile, options: ReadOptions): AsyncGenerator<RawRecord[]> {
  // A chunk of tiny records, or an object that wraps many, is not to be processed all at once.
  for await (const records of recordsOf(file, options)) {
    for (let at = 0; at < records.length; at += MAX_RECORDS) yield records.slice(at, at + MAX_RECORDS)
  }
}

async function* recordsOf({ path, kind }: InputFile, options: ReadOptions): AsyncGenerator<RawRecord[]> {
  const { limits, reading = {} } = options
  const fixed = fixedFormat(reading)
  const isRecord = (value: JsonObject): boolean =>
    (fixed === undefined ? detectFormat(value) : fixed.detect(value)) !== null
  const text = (): AsyncGenerator<Uint8Array> => openText(path, { limits, encoding: reading.encoding })
  switch (kind) {
    case 'json':
      yield* readJson(text(), { limits, isRecord })
      break
    case 'jsonl':
      yield* readJsonLines(text(), { limits, isRecord })
      break
    case 'csv':
      yield* readCsv(text(), limits)
      break
    case 'parquet':
      yield* readParquet(path)
      break
  }
}
