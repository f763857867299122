import { sizeOf } from '@mirastral/engine'
import { quantizeCheckpoint } from '@mirastral/quant'
import { createHash } from 'node:crypto'
import { mkdir, readdir, rename, rm, stat, statfs } from 'node:fs/promises'
import { homedir } from 'node:os'
import { join } from 'node:path'
import type { Checkpoint } from './checkpoint.js'
import { openCheckpoint } from './checkpoint.js'
import { ModelError, reasonOf } from './errors.js'

export interface QuantizedCacheOptions {
  /** Keep a copy of the quantized weights on disk. Default `auto`: for models of a quarter of a billion weights and more. */
  quantizedCache?: boolean | 'auto'
  /** Where; default MIRASTRAL_CACHE, else the user's cache folder (`~/.cache/mirastral`). */
  quantizedCacheDir?: string
  /** Called while the copy is made: bytes of full-precision weights done, and in all. */
  onQuantize?: (doneBytes: number, totalBytes: number) => void
}

/** Bump when the bytes of a quantized folder would differ for the same input. */
const layoutVersion = 1
/** Below this, quantizing again takes about a second. */
const autoElements = 2 ** 28

export interface CachedCheckpoint {
  /** What to read from: the copy, or the checkpoint itself. */
  readonly checkpoint: Checkpoint
  readonly warnings: readonly string[]
}

function cacheRoot({ quantizedCacheDir }: QuantizedCacheOptions): string {
  const user = process.env.MIRASTRAL_CACHE ?? join(process.env.XDG_CACHE_HOME ?? join(homedir(), '.cache'), 'mirastral')
  return quantizedCacheDir ?? join(user, 'quantized')
}

function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    return error instanceof Error && 'code' in error && error.code === 'EPERM'
  }
}

/** Removes what runs that were killed left behind. */
async function removeLeftovers(root: string): Promise<void> {
  for (const name of await readdir(root)) {
    const pid = /\.partial-(\d+)$/.exec(name)?.[1]
    if (pid !== undefined && !isRunning(Number(pid))) await rm(join(root, name), { recursive: true, force: true })
  }
}

async function tryOpen(folder: string): Promise<Checkpoint | null> {
  try {
    await stat(join(folder, 'config.json'))
  } catch {
    return null
  }
  try {
    return await openCheckpoint(folder)
  } catch {
    // A damaged copy is made again: the full-precision weights are at hand.
    await rm(folder, { recursive: true, force: true })
    return null
  }
}

/** Makes the copy under a name of its own, then gives it its name: it is whole or absent. */
async function quantizeTo(folder: string, source: Checkpoint, blockSize: number, options: QuantizedCacheOptions) {
  const partial = `${folder}.partial-${process.pid}`
  try {
    await rm(partial, { recursive: true, force: true })
    await quantizeCheckpoint(source.folder, partial, {
      blockSize,
      ...(options.onQuantize ? { onProgress: options.onQuantize } : {}),
    })
    await rename(partial, folder)
  } catch (error) {
    await rm(partial, { recursive: true, force: true })
    throw error
  }
}

/** Bytes of the copy, and half as much again for the temporary file while it is made. */
function neededBytes({ parameters }: Checkpoint): number {
  const bytes = parameters.reduce((sum, { kind, shape }) => sum + sizeOf(shape) * (kind === 'linear' ? 0.5625 : 4), 0)
  return 2 * bytes
}

async function freeBytes(root: string): Promise<number> {
  const { bavail, bsize } = await statfs(root)
  return bavail * bsize
}

/**
 * The quantized copy of a full-precision checkpoint: opened if it is there, made if it is not. Its key is the model's
 * identity, the block size and the version of the layout. Where no copy is wanted, or there is no room for one, the
 * checkpoint itself is returned; otherwise the checkpoint's reader is closed. Throws ModelError, QuantError.
 */
export async function cachedCheckpoint(
  source: Checkpoint,
  identity: string,
  options: QuantizedCacheOptions & { quantization?: 'nf4' | 'none'; blockSize?: number },
): Promise<CachedCheckpoint> {
  const { quantizedCache = 'auto', quantization = 'nf4', blockSize = 64 } = options
  const linear = source.parameters.filter(({ kind }) => kind === 'linear')
  const elements = linear.reduce((sum, { shape }) => sum + sizeOf(shape), 0)
  const isDense = [...source.stored.values()].every(({ format }) => format === 'dense')
  const wanted = quantizedCache === 'auto' ? elements >= autoElements : quantizedCache
  if (!wanted || quantization === 'none' || !isDense) return { checkpoint: source, warnings: [] }
  const root = cacheRoot(options)
  const key = createHash('sha256').update(`${layoutVersion}/${blockSize}/${identity}`).digest('hex').slice(0, 32)
  const folder = join(root, key)
  let copy = await tryOpen(folder)
  if (!copy) {
    try {
      await mkdir(root, { recursive: true })
      await removeLeftovers(root)
    } catch (error) {
      throw new ModelError('access', `${root}: the cache of quantized models cannot be written (${reasonOf(error)})`)
    }
    const [needed, free] = [neededBytes(source), await freeBytes(root)]
    if (free < needed) {
      const size = (bytes: number): string => `${(bytes / 1e9).toFixed(1)} GB`
      const rule = `${size(needed)} of disk are needed and ${size(free)} are free`
      const warning = `the quantized weights are not kept in ${root}: ${rule}; they are quantized anew at each start`
      return { checkpoint: source, warnings: [warning] }
    }
    await quantizeTo(folder, source, blockSize, options)
    copy = await openCheckpoint(folder)
  }
  await source.reader.close()
  return { checkpoint: copy, warnings: [] }
}
