import { FileError } from './file-problems.js'
import type { Limits } from './limits.js'
import type { RawRecord } from './raw-record.js'

/** Enough to see the header of any table. */
const SNIFF_BYTES = 64 << 10

/**
 * The rows of a CSV file with a header, as objects. The delimiter (comma, semicolon, tab or bar) is the one that the
 * header has most of, or the one of Excel's first line `sep=`. A row that does not fit the header costs that row only.
 *
 * @throws FileError invalid-utf8, record-too-large, or invalid-csv where quotes are not balanced to the end.
 */
export async function* readCsv(chunks: AsyncIterable<Uint8Array>, limits: Limits): AsyncGenerator<RawRecord[]> {
  const { parse } = await import('csv-parse')
  let rows: RawRecord[] = []
  let unclosed = false
  let tooLarge = false
  let parser: ReturnType<typeof parse> | undefined
  for await (const part of decoded(chunks)) {
    const named = parser === undefined ? /^sep=(.)\r?\n/.exec(part) : null
    const text = part.slice(named?.[0].length ?? 0)
    parser ??= quietly(
      parse({
        columns: (header: string[]) => header.map((name) => name.trim()),
        delimiter: named?.[1] ?? delimiterOf(text),
        relax_quotes: true,
        skip_empty_lines: true,
        skip_records_with_error: true,
        max_record_size: limits.maxRecordBytes,
        on_record: (value: unknown) => {
          rows.push({ value })
          return null
        },
        on_skip: (error) => {
          // The rest of the file has become one cell.
          unclosed = error?.code === 'CSV_QUOTE_NOT_CLOSED'
          tooLarge ||= error?.code === 'CSV_MAX_RECORD_SIZE'
          rows.push({ rule: 'invalid-row' })
          return undefined
        },
      }),
    )
    await written(parser, text)
    // Where such a row ends cannot be told.
    if (tooLarge) throw new FileError('record-too-large')
    yield rows
    rows = []
  }
  if (parser === undefined) throw new FileError('no-records')
  await ended(parser)
  if (unclosed) throw new FileError('invalid-csv')
  yield rows
}

async function* decoded(chunks: AsyncIterable<Uint8Array>): AsyncGenerator<string> {
  const decoder = new TextDecoder('utf-8', { fatal: true })
  try {
    let first = ''
    for await (const chunk of chunks) {
      first += decoder.decode(chunk, { stream: true })
      if (first.length < SNIFF_BYTES && !first.includes('\n')) continue
      yield first
      first = ''
    }
    first += decoder.decode()
    if (first !== '') yield first
  } catch (error) {
    throw error instanceof FileError ? error : new FileError('invalid-utf8')
  }
}

function delimiterOf(text: string): string {
  const header = text
    .slice(0, SNIFF_BYTES)
    .split('\n', 1)[0]
    .replaceAll(/"[^"]*"/g, '')
  const counted = [',', ';', '\t', '|'].map((delimiter) => ({ delimiter, count: header.split(delimiter).length }))
  return counted.reduce((best, candidate) => (candidate.count > best.count ? candidate : best)).delimiter
}

/** Errors come through the callbacks of write and end; an event that nobody hears would end the program. */
function quietly<T extends Writable>(parser: T): T {
  parser.on('error', () => undefined)
  return parser
}

interface Writable {
  write(text: string, done: (error?: Error | null) => void): boolean
  end(done: () => void): unknown
  on(event: 'error', listener: () => void): unknown
  resume(): unknown
}

function written(parser: Writable, text: string): Promise<void> {
  return new Promise((resolve, reject) => {
    parser.write(text, (error) => (error ? reject(new FileError('invalid-csv')) : resolve()))
  })
}

function ended(parser: Writable): Promise<void> {
  return new Promise((resolve, reject) => {
    parser.on('error', () => reject(new FileError('invalid-csv')))
    parser.resume()
    parser.end(resolve)
  })
}
