import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { open, readdir, rename, rm } from 'node:fs/promises'
import { basename, dirname, join, relative, sep } from 'node:path'
import { PUBLISHING_PREFIX } from '@mirastral/lora'

/** Flushes a file's bytes, or a folder's list of names, to the disk. */
export async function flush(path: string): Promise<void> {
  const handle = await open(path, 'r')
  try {
    await handle.sync()
  } finally {
    await handle.close()
  }
}

/** Makes a rename inside `folder` durable. Windows has no such operation and needs none. */
export async function flushFolder(folder: string): Promise<void> {
  if (process.platform !== 'win32') await flush(folder)
}

/** Replaces a file whole or not at all: temporary file beside it, flush, rename, flush of the folder. */
export async function writeFileAtomically(path: string, data: string | Uint8Array): Promise<void> {
  const temporary = `${path}.${process.pid}.tmp`
  try {
    const handle = await open(temporary, 'w')
    try {
      await handle.writeFile(data)
      await handle.sync()
    } finally {
      await handle.close()
    }
    await rename(temporary, path)
    await flushFolder(dirname(path))
  } catch (error) {
    await rm(temporary, { force: true })
    throw error
  }
}

/** All files under a folder as sorted paths relative to it, with `/` between the parts. */
export async function listFiles(folder: string): Promise<string[]> {
  const entries = await readdir(folder, { withFileTypes: true, recursive: true })
  return entries
    .filter((entry) => entry.isFile())
    .map((entry) => relative(folder, join(entry.parentPath, entry.name)).split(sep).join('/'))
    .sort()
}

/** SHA-256 of a file's bytes, in hexadecimal. */
export async function hashFile(path: string): Promise<string> {
  const hash = createHash('sha256')
  for await (const chunk of createReadStream(path, { highWaterMark: 1 << 20 })) hash.update(chunk as Buffer)
  return hash.digest('hex')
}

/** Folders that are being written, that something newer is about to replace, and that are being removed. */
export const temporaryPrefix = '.tmp-'
const replacedPrefix = '.replaced-'
const removedPrefix = '.removed-'
const disposable = [temporaryPrefix, removedPrefix, PUBLISHING_PREFIX]

/**
 * Gives a finished temporary folder its name; everything in it is on the disk before the name is. What had the name before
 * is put aside first and removed afterwards: after a kill in between, `removeLeftovers` gives it back its name.
 */
export async function publishFolder(temporary: string, final: string): Promise<void> {
  for (const file of await listFiles(temporary)) await flush(join(temporary, file))
  await flushFolder(temporary)
  const parent = dirname(final)
  const aside = join(parent, `${replacedPrefix}${basename(final)}`)
  const replaced = await renameIfThere(final, aside)
  await rename(temporary, final)
  await flushFolder(parent)
  if (replaced) await rm(aside, { recursive: true, force: true })
}

/** Removes a folder so that a kill on the way leaves nothing half-removed under its name. */
export async function removeFolder(folder: string): Promise<void> {
  const aside = join(dirname(folder), `${removedPrefix}${basename(folder)}`)
  if (await renameIfThere(folder, aside)) await rm(aside, { recursive: true, force: true })
}

/** Tidies up what a killed process left behind in a folder that only this process writes to. */
export async function removeLeftovers(folder: string): Promise<void> {
  const names = await readdir(folder)
  for (const name of names) {
    const path = join(folder, name)
    const replaced = name.startsWith(replacedPrefix) ? name.slice(replacedPrefix.length) : null
    if (replaced !== null && !names.includes(replaced)) await rename(path, join(folder, replaced))
    else if (replaced !== null || disposable.some((prefix) => name.startsWith(prefix))) {
      await rm(path, { recursive: true, force: true })
    }
  }
}

async function renameIfThere(from: string, to: string): Promise<boolean> {
  try {
    await rename(from, to)
    return true
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return false
    throw error
  }
}
