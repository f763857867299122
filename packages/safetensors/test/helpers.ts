import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterEach, beforeEach } from 'vitest'

export function fixture(name: string): string {
  return fileURLToPath(new URL(`../../../fixtures/${name}`, import.meta.url))
}

/** A folder for each test of a file, removed after it. `path` may be called within tests only. */
export function temporaryFolder(): { path(name?: string): string } {
  let folder = ''
  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'safetensors-'))
  })
  afterEach(async () => {
    await rm(folder, { recursive: true, force: true })
  })
  return { path: (name = '') => join(folder, name) }
}

/** A file as the format lays it out: length of the header, header, data. */
export function fileBytes(header: string, data: Uint8Array = new Uint8Array()): Buffer {
  const json = Buffer.from(header)
  const length = Buffer.alloc(8)
  length.writeBigUInt64LE(BigInt(json.length))
  return Buffer.concat([length, json, data])
}
