import { open, readFile } from 'node:fs/promises'
import { errorCodeOf } from '../errors.js'
import { HASH_BYTES } from '../records/hash-index.js'
import { SIGNATURE_BYTES } from '../records/min-hash.js'
import { ledgerError } from './journal.js'

const RECORD_BYTES = HASH_BYTES + SIGNATURE_BYTES

/**
 * The fingerprints of conversations: a content hash (16 bytes each) and a MinHash signature (128). No text can be had from
 * them.
 */
export interface Fingerprints {
  hashes: Uint8Array
  signatures: Uint8Array
}

/** Reads fixed-size records; a torn one at the end does not count. */
export async function readFingerprints(path: string): Promise<Fingerprints> {
  const bytes = await readFile(path).catch((error: unknown) => {
    if (errorCodeOf(error) === 'ENOENT') return Buffer.alloc(0)
    throw ledgerError(`${path} cannot be read (${errorCodeOf(error)})`)
  })
  const count = Math.floor(bytes.length / RECORD_BYTES)
  const hashes = new Uint8Array(count * HASH_BYTES)
  const signatures = new Uint8Array(count * SIGNATURE_BYTES)
  for (let i = 0; i < count; i++) {
    const at = i * RECORD_BYTES
    hashes.set(bytes.subarray(at, at + HASH_BYTES), i * HASH_BYTES)
    signatures.set(bytes.subarray(at + HASH_BYTES, at + RECORD_BYTES), i * SIGNATURE_BYTES)
  }
  return { hashes, signatures }
}

/** Appends records after the last whole one, or, where `fresh`, in place of all that is there. */
export async function appendFingerprints(
  path: string,
  { hashes, signatures }: Fingerprints,
  fresh: boolean,
): Promise<void> {
  const count = hashes.length / HASH_BYTES
  const bytes = Buffer.alloc(count * RECORD_BYTES)
  for (let i = 0; i < count; i++) {
    bytes.set(hashes.subarray(i * HASH_BYTES, (i + 1) * HASH_BYTES), i * RECORD_BYTES)
    bytes.set(signatures.subarray(i * SIGNATURE_BYTES, (i + 1) * SIGNATURE_BYTES), i * RECORD_BYTES + HASH_BYTES)
  }
  try {
    const file = await open(path, fresh ? 'w' : 'a', 0o600)
    try {
      const { size } = await file.stat()
      await file.truncate(size - (size % RECORD_BYTES))
      await file.appendFile(bytes)
      await file.sync()
    } finally {
      await file.close()
    }
  } catch (error) {
    throw ledgerError(`${path} cannot be written (${errorCodeOf(error)})`)
  }
}
