import { open } from 'node:fs/promises'
import type { FileHandle } from 'node:fs/promises'
import { errorCodeOf } from '../errors.js'
import { RecordError } from '../records/rules.js'
import { FileError } from './file-problems.js'
import type { RawRecord } from './raw-record.js'

/** About how much of a row group is decoded at a time, by its uncompressed size. */
const SLICE_BYTES = 16 << 20
/** A row group's columns are read whole where the file has no page index; more than this cannot be meant. */
const MAX_GROUP_BYTES = 1 << 30

/**
 * The rows of a Parquet file as objects, a slice of a row group at a time.
 *
 * @throws FileError invalid-parquet, unreadable, or record-too-large for a row group of more than 1 GiB.
 */
export async function* readParquet(path: string): AsyncGenerator<RawRecord[]> {
  const [{ parquetMetadataAsync, parquetReadObjects }, { compressors }] = await Promise.all([
    import('hyparquet'),
    import('hyparquet-compressors'),
  ])
  const handle = await open(path).catch((error: unknown) => {
    throw new FileError('unreadable', errorCodeOf(error))
  })
  try {
    const file = await asyncBuffer(handle)
    const metadata = await guarded(parquetMetadataAsync(file))
    let rowStart = 0
    for (const group of metadata.row_groups) {
      const rows = Number(group.num_rows)
      const bytes = Number(group.total_byte_size)
      if (bytes > MAX_GROUP_BYTES) throw new FileError('record-too-large')
      const step = Math.max(1, Math.floor(rows / Math.max(1, Math.ceil(bytes / SLICE_BYTES))))
      for (let at = 0; at < rows; at += step) {
        const range = { rowStart: rowStart + at, rowEnd: rowStart + Math.min(rows, at + step) }
        const slice = await guarded(
          parquetReadObjects({ file, metadata, compressors, parsers, useOffsetIndex: true, ...range }),
        )
        yield slice.map(recordOf)
      }
      rowStart += rows
    }
    if (rowStart === 0) throw new FileError('no-records')
  } finally {
    await handle.close()
  }
}

interface AsyncBuffer {
  byteLength: number
  slice(start: number, end?: number): Promise<ArrayBuffer>
}

async function asyncBuffer(handle: FileHandle): Promise<AsyncBuffer> {
  const { size } = await handle.stat()
  return {
    byteLength: size,
    slice: async (start, end = size) => {
      const length = Math.max(0, Math.min(end, size) - start)
      const bytes = new Uint8Array(length)
      const { bytesRead } = await handle.read(bytes, 0, length, start)
      if (bytesRead < length) throw new FileError('changed-while-reading')
      return bytes.buffer
    },
  }
}

/** The library's messages may quote the file. */
async function guarded<T>(result: Promise<T>): Promise<T> {
  try {
    return await result
  } catch (error) {
    throw error instanceof FileError ? error : new FileError('invalid-parquet')
  }
}

/** Stands for bytes that are no text: the library would put other characters in their place. */
const NO_TEXT = Symbol('not UTF-8')

function textOf(bytes: Uint8Array | undefined): unknown {
  if (bytes === undefined) return undefined
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes)
  } catch {
    return NO_TEXT
  }
}

const parsers = { stringFromBytes: textOf }

function recordOf(row: Record<string, unknown>): RawRecord {
  try {
    return { value: withoutBigInts(row) }
  } catch (error) {
    if (error instanceof RecordError) return { rule: error.rule }
    throw error
  }
}

/** @throws RecordError invalid-utf8 where a text is none. */
function withoutBigInts(value: unknown): unknown {
  if (value === NO_TEXT) throw new RecordError('invalid-utf8')
  if (typeof value === 'bigint') return Number(value)
  if (Array.isArray(value)) return value.map(withoutBigInts)
  if (typeof value !== 'object' || value === null || value instanceof Date || ArrayBuffer.isView(value)) return value
  return Object.fromEntries(Object.entries(value).map(([key, member]) => [key, withoutBigInts(member)]))
}
