import { open } from 'node:fs/promises'
import { DataError, errorCodeOf } from '../errors.js'
import { HASH_BYTES } from '../records/hash-index.js'
import { SIGNATURE_BYTES } from '../records/min-hash.js'
import { ledgerError } from './journal.js'

const RECORD_BYTES = HASH_BYTES + SIGNATURE_BYTES

/**
 * Fingerprints of conversations: a content hash (16 bytes each) and a MinHash signature (128). No text can be had from
 * them.
 */
export interface Fingerprints {
  hashes: Uint8Array
  signatures: Uint8Array
}

/** Conversations that are read at a time. */
const BATCH = 4096

/** Reads fixed-size records, some at a time; a torn one at the end does not count. */
export async function* readFingerprints(path: string): AsyncGenerator<Fingerprints> {
  try {
    const file = await open(path)
    try {
      const { size } = await file.stat()
      const total = Math.floor(size / RECORD_BYTES)
      for (let start = 0; start < total; start += BATCH) {
        const bytes = Buffer.alloc(Math.min(BATCH, total - start) * RECORD_BYTES)
        const { bytesRead } = await file.read(bytes, 0, bytes.length, start * RECORD_BYTES)
        yield unpacked(bytes.subarray(0, bytesRead - (bytesRead % RECORD_BYTES)))
      }
    } finally {
      await file.close()
    }
  } catch (error) {
    if (errorCodeOf(error) === 'ENOENT') return
    throw error instanceof DataError ? error : ledgerError(`${path} cannot be read (${errorCodeOf(error)})`)
  }
}

/** Appends records after the last whole one, or, where `fresh`, in place of all that is there. */
export async function appendFingerprints(path: string, batches: Iterable<Fingerprints>, fresh: boolean): Promise<void> {
  try {
    const file = await open(path, fresh ? 'w' : 'a', 0o600)
    try {
      const { size } = await file.stat()
      await file.truncate(size - (size % RECORD_BYTES))
      for (const batch of batches) await file.appendFile(packed(batch))
      await file.sync()
    } finally {
      await file.close()
    }
  } catch (error) {
    throw error instanceof DataError ? error : ledgerError(`${path} cannot be written (${errorCodeOf(error)})`)
  }
}

function unpacked(bytes: Buffer): Fingerprints {
  const count = bytes.length / RECORD_BYTES
  const hashes = new Uint8Array(count * HASH_BYTES)
  const signatures = new Uint8Array(count * SIGNATURE_BYTES)
  for (let i = 0; i < count; i++) {
    const at = i * RECORD_BYTES
    hashes.set(bytes.subarray(at, at + HASH_BYTES), i * HASH_BYTES)
    signatures.set(bytes.subarray(at + HASH_BYTES, at + RECORD_BYTES), i * SIGNATURE_BYTES)
  }
  return { hashes, signatures }
}

function packed({ hashes, signatures }: Fingerprints): Buffer {
  const count = hashes.length / HASH_BYTES
  const bytes = Buffer.alloc(count * RECORD_BYTES)
  for (let i = 0; i < count; i++) {
    bytes.set(hashes.subarray(i * HASH_BYTES, (i + 1) * HASH_BYTES), i * RECORD_BYTES)
    bytes.set(signatures.subarray(i * SIGNATURE_BYTES, (i + 1) * SIGNATURE_BYTES), i * RECORD_BYTES + HASH_BYTES)
  }
  return bytes
}
