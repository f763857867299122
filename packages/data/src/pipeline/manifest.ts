import { DataError } from '../errors.js'

/**
 * What a prepared data set was made of: plain JSON, for a checkpoint. Given back when the run is resumed, it makes the same
 * rows in the same order, whatever has been written to the input folders since. Hashes are SHA-256 in hexadecimal.
 */
export interface DataManifest {
  version: 1
  /** The files whose rows are used, in order. */
  files: { path: string; sha256: string }[]
  tokenizer: string
  settings: string
  /** Over the content hashes of the conversations that are used, in order. */
  conversations: string
}

/** @throws DataError MIRASTRAL_DATA_CHANGED that says what differs. */
export function requireSame(expected: DataManifest, got: DataManifest): void {
  const hashes = new Set(got.files.map((file) => file.sha256))
  const missing = expected.files.filter((file) => !hashes.has(file.sha256))
  const different: string[] = []
  if (missing.length > 0) {
    different.push(`${missing.length} input files are gone or were changed (first: ${missing[0].path})`)
  }
  if (expected.tokenizer !== got.tokenizer) different.push('the tokenizer or its chat template')
  if (expected.settings !== got.settings) different.push('the data options')
  if (different.length === 0 && expected.conversations !== got.conversations) {
    different.push('the conversations in them; was another run written into the ledger meanwhile?')
  }
  if (different.length === 0) return
  throw new DataError(
    'MIRASTRAL_DATA_CHANGED',
    `data: the run to be resumed had other data: ${different.join('; ')}; put it back, or start a new run`,
  )
}
