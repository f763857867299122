import { open, readFile, rename, rm, stat } from 'node:fs/promises'
import { ModelError, reasonOf } from './errors.js'

/** Above any configuration, and far below what would hurt. */
const maxJsonBytes = 2 ** 24

/** Reads a small JSON file. Throws ModelError: `access` if it cannot be read, `config` if it is not JSON. */
export async function readJsonFile(path: string): Promise<unknown> {
  let text: string
  try {
    const { size } = await stat(path)
    if (size > maxJsonBytes)
      throw new ModelError('config', `${path}: must be at most ${maxJsonBytes} bytes, got ${size}`)
    text = await readFile(path, 'utf8')
  } catch (error) {
    if (error instanceof ModelError) throw error
    throw new ModelError('access', `${path}: cannot be read (${reasonOf(error)})`, [], { cause: error })
  }
  try {
    return JSON.parse(text)
  } catch (error) {
    throw new ModelError('config', `${path}: must be JSON (${reasonOf(error)})`, [], { cause: error })
  }
}

/** `value` with the keys of its objects sorted. */
function sortedKeys(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(sortedKeys)
  if (typeof value !== 'object' || value === null) return value
  const entries = Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1))
  return Object.fromEntries(entries.map(([key, item]) => [key, sortedKeys(item)]))
}

/** Writes JSON as Transformers does (sorted keys, two spaces, a final newline), whole or not at all. */
export async function writeJsonFile(path: string, value: unknown): Promise<void> {
  const temporary = `${path}.${process.pid}.tmp`
  try {
    const handle = await open(temporary, 'w')
    try {
      await handle.writeFile(`${JSON.stringify(sortedKeys(value), null, 2)}\n`)
      await handle.sync()
    } finally {
      await handle.close()
    }
    await rename(temporary, path)
  } catch (error) {
    await rm(temporary, { force: true })
    throw new ModelError('access', `${path}: cannot be written (${reasonOf(error)})`, [], { cause: error })
  }
}
