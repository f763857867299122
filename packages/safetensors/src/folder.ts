import { open, readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { SafetensorsError, systemError } from './errors.js'
import type { ReadLimits, SafetensorsReader } from './file.js'
import { SafetensorsFile } from './file.js'
import type { TensorInfo } from './header.js'
import { MAX_HEADER_BYTES, quoted } from './header.js'

export interface FolderOptions extends ReadLimits {
  /** The folder holds `<baseName>.safetensors`, or `<baseName>.safetensors.index.json` and its shards; default `model`. */
  baseName?: string
}

/**
 * The weights of a model folder: one file, or shards with an index, read in the same way. All headers are checked when
 * it is opened; each shard's data is opened when first needed. Every method throws SafetensorsError.
 */
export class SafetensorsFolder implements SafetensorsReader {
  private readonly opened = new Map<string, Promise<SafetensorsFile>>()

  private constructor(
    readonly path: string,
    readonly tensors: ReadonlyMap<string, TensorInfo>,
    readonly metadata: Readonly<Record<string, string>>,
    /** The file name of every tensor. */
    readonly files: ReadonlyMap<string, string>,
    private readonly limits: ReadLimits,
  ) {}

  /**
   * Opens the single file if there is one (as Transformers does), else the index. Names every missing shard and every
   * tensor that the index promises and no shard holds. Kinds of error: `access`, `malformed`, `limit`, `io`.
   */
  static async open(folder: string, options: FolderOptions = {}): Promise<SafetensorsFolder> {
    const { baseName = 'model', ...limits } = options
    const single = `${baseName}.safetensors`
    const indexName = `${single}.index.json`
    const present = await listFolder(folder)
    if (present.has(single)) {
      const { tensors, metadata } = await readHeaderOnly(join(folder, single), limits)
      const files = new Map([...tensors.keys()].map((name) => [name, single] as const))
      return new SafetensorsFolder(folder, tensors, metadata, files, limits)
    }
    if (!present.has(indexName)) {
      throw new SafetensorsError('access', `${folder}: must hold ${single} or ${indexName}, got neither`)
    }
    const indexPath = join(folder, indexName)
    const files = parseIndex(indexPath, await readText(indexPath, limits.maxHeaderBytes ?? MAX_HEADER_BYTES))
    const missing = [...new Set(files.values())].filter((name) => !present.has(name))
    if (missing.length > 0) {
      throw new SafetensorsError(
        'access',
        `${folder}: every shard of ${indexName} must be there, missing: ${missing.join(', ')}`,
      )
    }
    const { tensors, metadata } = await readShardHeaders(folder, files, limits)
    return new SafetensorsFolder(folder, tensors, metadata, files, limits)
  }

  async read(name: string): Promise<Uint8Array<ArrayBuffer>> {
    return (await this.shardOf(name)).read(name)
  }

  async readRange(name: string, start: number, end: number): Promise<Uint8Array<ArrayBuffer>> {
    return (await this.shardOf(name)).readRange(name, start, end)
  }

  async readInto(name: string, target: Uint8Array, start = 0): Promise<void> {
    return (await this.shardOf(name)).readInto(name, target, start)
  }

  async close(): Promise<void> {
    const files = await Promise.allSettled(this.opened.values())
    this.opened.clear()
    for (const file of files) if (file.status === 'fulfilled') await file.value.close()
  }

  pathOf(name: string): string {
    const fileName = this.files.get(name)
    if (fileName !== undefined) return join(this.path, fileName)
    throw new SafetensorsError('unknown-tensor', `${this.path}: there is no tensor ${quoted(name)}`)
  }

  private shardOf(name: string): Promise<SafetensorsFile> {
    const path = this.pathOf(name)
    const known = this.opened.get(path)
    if (known) return known
    const file = SafetensorsFile.open(path, this.limits)
    this.opened.set(path, file)
    return file
  }
}

async function listFolder(folder: string): Promise<Set<string>> {
  try {
    return new Set(await readdir(folder))
  } catch (error) {
    throw systemError(folder, error)
  }
}

async function readHeaderOnly(
  path: string,
  limits: ReadLimits,
): Promise<Pick<SafetensorsFile, 'tensors' | 'metadata'>> {
  const file = await SafetensorsFile.open(path, limits)
  await file.close()
  return file
}

async function readShardHeaders(
  folder: string,
  files: ReadonlyMap<string, string>,
  limits: ReadLimits,
): Promise<{ tensors: Map<string, TensorInfo>; metadata: Record<string, string> }> {
  const shards = new Map<string, Pick<SafetensorsFile, 'tensors' | 'metadata'>>()
  const metadata: Record<string, string> = Object.create(null) as Record<string, string>
  for (const fileName of new Set(files.values())) {
    const shard = await readHeaderOnly(join(folder, fileName), limits)
    shards.set(fileName, shard)
    Object.assign(metadata, shard.metadata)
  }
  const tensors = new Map<string, TensorInfo>()
  const absent: string[] = []
  for (const [name, fileName] of files) {
    const info = shards.get(fileName)?.tensors.get(name)
    if (info) tensors.set(name, info)
    else absent.push(`${quoted(name)} in ${fileName}`)
  }
  if (absent.length > 0) {
    const more = absent.length > 5 ? ` and ${absent.length - 5} more` : ''
    const list = absent.slice(0, 5).join(', ')
    throw new SafetensorsError(
      'malformed',
      `${folder}: the index must agree with the shards, not found: ${list}${more}`,
    )
  }
  return { tensors, metadata }
}

async function readText(path: string, maxBytes: number): Promise<string> {
  try {
    const handle = await open(path, 'r')
    try {
      const { size } = await handle.stat()
      if (size > maxBytes)
        throw new SafetensorsError('limit', `${path}: the index must have at most ${maxBytes} bytes, got ${size}`)
      return await handle.readFile('utf8')
    } finally {
      await handle.close()
    }
  } catch (error) {
    throw systemError(path, error)
  }
}

/** The `weight_map`: tensor name to file name, in the index's order. */
function parseIndex(path: string, text: string): Map<string, string> {
  const fail = (rule: string): never => {
    throw new SafetensorsError('malformed', `${path}: ${rule}; the index is damaged`)
  }
  let json: unknown
  try {
    json = JSON.parse(text)
  } catch {
    return fail('must be JSON, got something else')
  }
  const weightMap = typeof json === 'object' && json !== null && 'weight_map' in json ? json.weight_map : undefined
  if (typeof weightMap !== 'object' || weightMap === null || Array.isArray(weightMap)) {
    return fail('must have an object weight_map')
  }
  const files = new Map<string, string>()
  for (const [name, fileName] of Object.entries(weightMap as Record<string, unknown>)) {
    if (typeof fileName !== 'string' || !isPlainFileName(fileName)) {
      return fail(
        `tensor ${quoted(name)} must be in a .safetensors file of this folder, got ${quoted(String(fileName))}`,
      )
    }
    files.set(name, fileName)
  }
  return files
}

/** A name that cannot lead out of the folder. */
function isPlainFileName(name: string): boolean {
  return /^[^/\\\0:]+\.safetensors$/.test(name)
}
