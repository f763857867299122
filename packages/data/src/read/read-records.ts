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
export async function* readRecords({ path, kind }: InputFile, options: ReadOptions): AsyncGenerator<RawRecord[]> {
  const { limits, reading = {} } = options
  const { encoding } = reading
  const fixed = fixedFormat(reading)
  const isRecord = (value: JsonObject): boolean =>
    (fixed === undefined ? detectFormat(value) : fixed.detect(value)) !== null
  switch (kind) {
    case 'json':
      yield* readJson(openText(path, encoding), { limits, isRecord })
      break
    case 'jsonl':
      yield* readJsonLines(openText(path, encoding), limits)
      break
    case 'csv':
      yield* readCsv(openText(path, encoding), limits)
      break
    case 'parquet':
      yield* readParquet(path)
      break
  }
}
