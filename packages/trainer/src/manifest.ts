import { readFile, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { z } from 'zod'
import { systemErrorCode } from './errors.js'
import { hashFile, listFiles } from './files.js'

const manifestName = 'manifest.json'

const manifestSchema = z.strictObject({
  format: z.literal(1),
  files: z.array(
    z.strictObject({ path: z.string(), bytes: z.number().int().nonnegative(), sha256: z.string().length(64) }),
  ),
})

/** Writes the list of all files of a folder with their sizes and SHA-256. */
export async function writeManifest(folder: string): Promise<void> {
  const files = []
  for (const path of await listFiles(folder)) {
    if (path === manifestName) continue
    const file = join(folder, path)
    files.push({ path, bytes: (await stat(file)).size, sha256: await hashFile(file) })
  }
  await writeFile(join(folder, manifestName), `${JSON.stringify({ format: 1, files }, null, 2)}\n`)
}

/** Null if every file of the manifest is there, byte for byte; otherwise what is wrong. Further files do not matter. */
export async function findDamage(folder: string): Promise<string | null> {
  let text: string
  try {
    text = await readFile(join(folder, manifestName), 'utf8')
  } catch (error) {
    return `${manifestName} cannot be read (${systemErrorCode(error) ?? String(error)})`
  }
  const manifest = manifestSchema.safeParse(parseJson(text))
  if (!manifest.success) return `${manifestName} is damaged`
  for (const file of manifest.data.files) {
    const damage = await findFileDamage(join(folder, file.path), file)
    if (damage !== null) return `${file.path} ${damage}`
  }
  return null
}

async function findFileDamage(path: string, expected: { bytes: number; sha256: string }): Promise<string | null> {
  try {
    const { size } = await stat(path)
    if (size !== expected.bytes) return `must have ${expected.bytes} bytes, got ${size}`
    const hash = await hashFile(path)
    if (hash !== expected.sha256)
      return `must have SHA-256 ${expected.sha256.slice(0, 12)}..., got ${hash.slice(0, 12)}...`
    return null
  } catch (error) {
    return systemErrorCode(error) === 'ENOENT'
      ? 'is missing'
      : `cannot be read (${systemErrorCode(error) ?? String(error)})`
  }
}

/** The parsed value, or undefined for text that is not JSON. */
export function parseJson(text: string): unknown {
  try {
    return JSON.parse(text) as unknown
  } catch {
    return undefined
  }
}
