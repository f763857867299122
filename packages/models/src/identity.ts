import { createHash } from 'node:crypto'
import type { Checkpoint } from './checkpoint.js'

/** Bytes hashed of each tensor: enough to tell two trainings of one architecture apart. */
const sampledBytes = 1024

/**
 * A SHA-256 (hexadecimal) that says which model this is: what its configuration means, the name, dtype and shape of
 * every tensor, and the first KiB of each. A model that was moved or sharded anew keeps it. Takes milliseconds.
 */
export async function modelIdentity({ config, reader }: Checkpoint): Promise<string> {
  // The rest is not part of the mathematics: how the file is spelled, and advice about it.
  const { json: _json, warnings: _warnings, ...meaning } = config
  const hash = createHash('sha256').update(JSON.stringify(meaning))
  const byName = [...reader.tensors].sort(([a], [b]) => (a < b ? -1 : 1))
  for (const [name, { dtype, shape, byteLength }] of byName) {
    hash.update(`\n${name} ${dtype} ${shape.join(',')}\n`)
    hash.update(await reader.readRange(name, 0, Math.min(byteLength, sampledBytes)))
  }
  return hash.digest('hex')
}
