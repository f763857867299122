import { createHash } from 'node:crypto'
import type { FileHandle } from 'node:fs/promises'
import { mkdir, open, readFile } from 'node:fs/promises'
import { dirname } from 'node:path'
import type { BatchOptions } from './batches.js'
import { crc32c } from './crc32c.js'
import { systemErrorCode, writeError } from './errors.js'
import type { PairSource, PreferencePair } from './preference-batches.js'
import { collatePairs } from './preference-batches.js'
import type { PreferenceStep } from './preference-step.js'
import type { StopSource } from './signals.js'

export interface ReferenceRequest extends Pick<BatchOptions, 'batchSize' | 'padTokenId' | 'sequenceLength'> {
  readonly step: Pick<PreferenceStep, 'referenceLogProbs'>
  readonly pairs: PairSource
  /** Where the numbers are kept: a run that is interrupted, or resumed, computes none of them twice. */
  readonly file: string
  /** What they depend on beside the pairs: the base model's identity. */
  readonly model: string
  readonly stop?: StopSource
  readonly onProgress?: (done: number, of: number) => void
}

/** Two float32 log-probabilities, chosen and rejected, and the CRC-32C of their bytes. */
const recordBytes = 12

/**
 * Log-probabilities of all pairs without the adapter, two a pair, chosen first. Computed once and kept in a file: its first
 * line names model and pairs by hash, and a file of others is replaced.
 * @throws StopRequested once a stop is requested; what is computed by then is kept.
 */
export async function referenceLogProbs(request: ReferenceRequest): Promise<Float32Array> {
  const { pairs, step, file, batchSize } = request
  const header = Buffer.from(`mirastral reference ${await hashOf(request)}\n`)
  const references = new Float32Array(2 * pairs.length)
  let done = 0
  try {
    await mkdir(dirname(file), { recursive: true })
    const known = await readKnown(file, header)
    // Whole batches only: the same rows are computed together whatever happened, so the bits are the same.
    done = known.length / 2 >= pairs.length ? pairs.length : known.length / 2 - ((known.length / 2) % batchSize)
    references.set(known.subarray(0, 2 * done))
    if (done === pairs.length) return references
    const handle = await openAfter(file, header, done)
    try {
      while (done < pairs.length) {
        request.stop?.throwIfRequested()
        const batch = await pickPairs(pairs, done, Math.min(pairs.length, done + batchSize))
        const logProbs = await step.referenceLogProbs(collatePairs(batch, request))
        batch.forEach((_, i) => references.set([logProbs[i], logProbs[batch.length + i]], 2 * (done + i)))
        await handle.appendFile(encode(references.subarray(2 * done, 2 * (done + batch.length))))
        done += batch.length
        request.onProgress?.(done, pairs.length)
      }
      await handle.sync()
    } finally {
      await handle.close()
    }
    return references
  } catch (error) {
    throw writeError(error, `reference file ${file}`)
  }
}

async function pickPairs(pairs: PairSource, start: number, end: number): Promise<PreferencePair[]> {
  return Promise.all(Array.from({ length: end - start }, async (_, i) => pairs.get(start + i)))
}

async function hashOf({ model, pairs, sequenceLength, padTokenId }: ReferenceRequest): Promise<string> {
  const hash = createHash('sha256').update(JSON.stringify([model, sequenceLength, padTokenId, pairs.length]))
  for (let i = 0; i < pairs.length; i++) {
    const { chosen, rejected } = await pairs.get(i)
    for (const { inputIds, labels } of [chosen, rejected])
      hash.update(`${inputIds.length}:`).update(inputIds).update(labels)
  }
  return hash.digest('hex')
}

function encode(values: Float32Array): Buffer {
  const bytes = Buffer.alloc((values.length / 2) * recordBytes)
  for (let i = 0; i < values.length / 2; i++) {
    bytes.writeFloatLE(values[2 * i], i * recordBytes)
    bytes.writeFloatLE(values[2 * i + 1], i * recordBytes + 4)
    bytes.writeUInt32LE(crc32c(bytes.subarray(i * recordBytes, i * recordBytes + 8)), i * recordBytes + 8)
  }
  return bytes
}

/** The values up to the first record that is not whole; none if the file is another's. */
async function readKnown(file: string, header: Buffer): Promise<Float32Array> {
  let bytes: Buffer
  try {
    bytes = await readFile(file)
  } catch (error) {
    if (systemErrorCode(error) === 'ENOENT') return new Float32Array()
    throw error
  }
  if (!bytes.subarray(0, header.length).equals(header)) return new Float32Array()
  const values: number[] = []
  for (let at = header.length; at + recordBytes <= bytes.length; at += recordBytes) {
    if (crc32c(bytes.subarray(at, at + 8)) !== bytes.readUInt32LE(at + 8)) break
    values.push(bytes.readFloatLE(at), bytes.readFloatLE(at + 4))
  }
  return Float32Array.from(values)
}

/** Opens the file for appending behind its first `done` records; begins it anew where there are none. */
async function openAfter(file: string, header: Buffer, done: number): Promise<FileHandle> {
  const handle = await open(file, done === 0 ? 'w' : 'r+')
  try {
    if (done === 0) await handle.writeFile(header)
    else await handle.truncate(header.length + done * recordBytes)
    await handle.close()
  } catch (error) {
    await handle.close().catch(() => undefined)
    throw error
  }
  return open(file, 'a')
}
