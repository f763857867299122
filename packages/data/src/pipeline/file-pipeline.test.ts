import { appendFileSync, readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { loadTokenizer, temporaryFolder } from '../../test/fixtures.js'
import { DataError } from '../errors.js'
import { identify } from '../read/hash-file.js'
import { DEFAULT_LIMITS } from '../read/limits.js'
import type { RawRecord } from '../read/raw-record.js'
import { TokenCache } from '../rows/token-cache.js'
import { TokenSpool } from '../rows/token-spool.js'
import { processFile } from './file-pipeline.js'
import { packRecords, unpackRecords } from './packed-records.js'
import { createPool } from './process-pool.js'
import type { ProcessPool } from './process-pool.js'

const folder = temporaryFolder()
const settings = { limits: DEFAULT_LIMITS, fit: {}, splitSeed: 0, signatures: false }
const tokenizer = await loadTokenizer('mistral-v3')

/** A pool that does something before it hands out its first result. */
function meddling(action: () => void): ProcessPool {
  const pool = createPool(tokenizer, settings, 0, 0)
  return {
    ...pool,
    process: (...task) => {
      action()
      return pool.process(...task)
    },
  }
}

describe('processFile', () => {
  it('gives a file up that is written to while it is read, and keeps nothing of it in the cache', async () => {
    const path = join(folder, 'growing.jsonl')
    writeFileSync(path, '{"question": "q", "answer": "a"}\n')
    const cacheDir = join(folder, 'cache')
    const cache = await TokenCache.create(cacheDir, new TokenSpool())
    const pipeline = {
      pool: meddling(() => appendFileSync(path, '\n')),
      read: { limits: DEFAULT_LIMITS, reading: {} },
      cacheParts: [],
      spool: new TokenSpool(),
    }
    for (const used of [cache, undefined]) {
      const chunks = processFile({ path, kind: 'jsonl' }, await identify(path), { ...pipeline, cache: used })
      const reading = (async () => {
        for await (const { columns } of chunks) expect(columns.records).toBe(1)
      })()
      await expect(reading).rejects.toMatchObject({ problem: 'changed-while-reading' })
    }
    expect(readdirSync(cacheDir)).toEqual([])
    cache.close()
  })

  it('names a cache folder that cannot be made', async () => {
    const path = join(folder, 'a-file')
    writeFileSync(path, '')
    await expect(TokenCache.create(join(path, 'cache'), new TokenSpool())).rejects.toThrow(DataError)
    await expect(TokenCache.create(join(path, 'cache'), new TokenSpool())).rejects.toThrow(
      /token cache: .* cannot be written \(ENOTDIR\)/,
    )
  })
})

describe('packRecords', () => {
  it('brings records over in order, whatever they are', () => {
    const records: RawRecord[] = [
      { bytes: Buffer.from('{"a": 1}') },
      { rule: 'record-too-large' },
      { value: { b: 2 } },
      { bytes: new Uint8Array(0) },
      { bytes: Buffer.from('[]') },
    ]
    const back = unpackRecords(structuredClone(packRecords(records)))
    const plain = (record: RawRecord): unknown => ('bytes' in record ? Buffer.from(record.bytes).toString() : record)
    expect(back.map(plain)).toEqual(records.map(plain))
  })
})
