import type { InputFile } from './input-files.js'
import { openText } from './open-bytes.js'
import type { RawRecord } from './raw-record.js'
import { readCsv } from './read-csv.js'
import { readParquet } from './read-parquet.js'
import { readJson, readJsonLines } from './read-json.js'
import type { JsonReadOptions } from './read-json.js'

export interface ReadOptions extends JsonReadOptions {
  /** The encoding of text files that are not UTF-8, a label of the WHATWG Encoding standard. */
  encoding?: string
}

/**
 * The records of a file in order, some at a time; memory does not grow with the file.
 *
 * @throws FileError where the file cannot be read to its end.
 */
export async function* readRecords({ path, kind }: InputFile, options: ReadOptions): AsyncGenerator<RawRecord[]> {
  switch (kind) {
    case 'json':
      yield* readJson(openText(path, options.encoding), options)
      break
    case 'jsonl':
      yield* readJsonLines(openText(path, options.encoding), options.limits)
      break
    case 'csv':
      yield* readCsv(openText(path, options.encoding), options.limits)
      break
    case 'parquet':
      yield* readParquet(path)
      break
  }
}
