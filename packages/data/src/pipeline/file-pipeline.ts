import { readingOf } from '../formats/reading.js'
import type { Reading } from '../formats/reading.js'
import { requireUnchanged } from '../read/hash-file.js'
import type { FileIdentity } from '../read/hash-file.js'
import type { InputFile } from '../read/input-files.js'
import { readRecords } from '../read/read-records.js'
import type { ReadOptions } from '../read/read-records.js'
import type { ProcessedChunk } from '../records/processed-chunk.js'
import type { TokenCache } from '../rows/token-cache.js'
import type { StoredChunk, TokenSpool } from '../rows/token-spool.js'
import type { ProcessPool } from './process-pool.js'

export interface FilePipeline {
  pool: ProcessPool
  /** Where a file has no reading of its own. */
  read: Omit<ReadOptions, 'reading'> & { reading: Reading }
  /** With it, what has been processed before is taken from disk. */
  cache: TokenCache | undefined
  /** Takes the tokens where there is no cache. */
  spool: TokenSpool
  /** Everything but the file that decides its chunks, as plain JSON. */
  cacheParts: readonly unknown[]
}

/**
 * The processed chunks of a file, in the order of its records.
 *
 * @throws FileError where the file cannot be read to its end, or was written to meanwhile; the chunks before are then worth
 *   nothing.
 */
export async function* processFile(
  file: InputFile,
  identity: FileIdentity,
  pipeline: FilePipeline,
): AsyncGenerator<StoredChunk> {
  const { cache } = pipeline
  if (cache === undefined) {
    for await (const chunk of freshChunks(file, identity, pipeline)) yield pipeline.spool.keep(chunk)
    await requireUnchanged(file.path, identity)
    return
  }
  const key = cache.keyOf(
    identity.sha256,
    file.kind,
    ...pipeline.cacheParts,
    ...(file.reading === undefined ? [] : [file.reading]),
  )
  const kept = cache.read(key)
  if (kept !== null) {
    yield* kept
    return
  }
  const writer = cache.write(key)
  let isWhole = false
  try {
    for await (const chunk of freshChunks(file, identity, pipeline)) yield writer.append(chunk)
    await requireUnchanged(file.path, identity)
    isWhole = true
  } finally {
    if (isWhole) writer.commit()
    else writer.abort()
  }
}

/** Keeps the pool busy, and hands the results out in order. */
async function* freshChunks(
  file: InputFile,
  identity: FileIdentity,
  { pool, read }: FilePipeline,
): AsyncGenerator<ProcessedChunk> {
  const underWay: Promise<ProcessedChunk>[] = []
  let record = 0
  const { reading } = file
  for await (const records of readRecords(file, { ...read, reading: readingOf(reading, read.reading) })) {
    if (records.length === 0) continue
    const place = { firstRecord: record, fileHash: identity.sha256 }
    const result = pool.process({ ...place, records, ...(reading === undefined ? {} : { reading }) })
    // Awaited below; until then a failure must not count as unheard.
    result.catch(() => undefined)
    underWay.push(result)
    record += records.length
    if (underWay.length < pool.width) continue
    const oldest = underWay.shift()
    if (oldest !== undefined) yield await oldest
  }
  for (const result of underWay) yield await result
}
