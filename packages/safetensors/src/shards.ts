import { readdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { elementCount, tensorBytes } from './dtype.js'
import { systemError } from './errors.js'
import type { TensorHeader } from './header.js'
import type { TensorEntry } from './write.js'
import { writeSafetensors } from './write.js'
import type { WriteOptions } from './writer.js'
import { syncFolder, writeFileAtomically } from './writer.js'

export interface ShardOptions extends WriteOptions {
  /** A shard is closed before it would exceed this many bytes of tensors; default 5e9. A larger tensor gets its own. */
  maxShardBytes?: number
  /** File names begin with it: `model` (the default) gives model.safetensors or model-00001-of-0000N.safetensors. */
  baseName?: string
  /** The index's `total_parameters`; default: the number of elements of all tensors. */
  totalParameters?: number
}

/** How tensors are spread over files. */
export interface ShardPlan<Entry extends TensorHeader> {
  readonly files: readonly { readonly fileName: string; readonly entries: readonly Entry[] }[]
  /** The text of `<baseName>.safetensors.index.json`; undefined where one file holds everything. */
  readonly index: string | undefined
}

/**
 * Spreads tensors over shards as `huggingface_hub.split_state_dict_into_shards_factory` does: greedily, in the given
 * order; a tensor larger than a shard gets a file of its own. One shard needs no index.
 */
export function planShards<Entry extends TensorHeader>(
  entries: Iterable<Entry>,
  options: ShardOptions = {},
): ShardPlan<Entry> {
  const { maxShardBytes = 5e9, baseName = 'model' } = options
  const shards: Entry[][] = []
  let current: Entry[] = []
  let currentBytes = 0
  let totalBytes = 0
  let totalParameters = 0
  for (const entry of entries) {
    const bytes = tensorBytes(entry.dtype, entry.shape) ?? 0
    totalBytes += bytes
    totalParameters += elementCount(entry.shape) ?? 0
    if (bytes > maxShardBytes) {
      shards.push([entry])
      continue
    }
    if (currentBytes + bytes > maxShardBytes) {
      shards.push(current)
      current = []
      currentBytes = 0
    }
    current.push(entry)
    currentBytes += bytes
  }
  if (current.length > 0 || shards.length === 0) shards.push(current)

  const files = shards.map((entriesOfShard, i) => ({
    fileName: shards.length === 1 ? `${baseName}.safetensors` : shardName(baseName, i + 1, shards.length),
    entries: entriesOfShard,
  }))
  if (files.length === 1) return { files, index: undefined }
  const metadata = { total_parameters: options.totalParameters ?? totalParameters, total_size: totalBytes }
  return { files, index: indexText(metadata, files) }
}

/**
 * Writes tensors into `folder` as `<baseName>.safetensors`, or as shards with an index where they exceed
 * `maxShardBytes`. Each file is written atomically, the index last; files of an earlier, differently sharded model of
 * the same base name are then removed. Returns the names of the files. Throws SafetensorsError.
 */
export async function writeShardedSafetensors(
  folder: string,
  entries: Iterable<TensorEntry>,
  options: ShardOptions = {},
): Promise<string[]> {
  const plan = planShards(entries, options)
  for (const { fileName, entries: entriesOfShard } of plan.files) {
    await writeSafetensors(join(folder, fileName), entriesOfShard, options)
  }
  return finishShards(folder, plan, options)
}

/** Writes the index of shards that are all in place and removes what an earlier model of the same name left. */
export async function finishShards(
  folder: string,
  plan: ShardPlan<TensorHeader>,
  options: ShardOptions = {},
): Promise<string[]> {
  const { baseName = 'model' } = options
  const names = plan.files.map(({ fileName }) => fileName)
  if (plan.index !== undefined) {
    const indexName = `${baseName}.safetensors.index.json`
    await writeFileAtomically(join(folder, indexName), plan.index)
    names.push(indexName)
  }
  await removeOthers(folder, baseName, new Set(names))
  return names
}

function shardName(baseName: string, number: number, count: number): string {
  const digits = (n: number): string => String(n).padStart(5, '0')
  return `${baseName}-${digits(number)}-of-${digits(count)}.safetensors`
}

function indexText(metadata: Record<string, number>, files: ShardPlan<TensorHeader>['files']): string {
  const byName = files.flatMap(({ fileName, entries }) => entries.map(({ name }) => [name, fileName] as const))
  const lines = byName
    .sort(([a], [b]) => Buffer.compare(Buffer.from(a), Buffer.from(b)))
    .map(([name, fileName]) => `    ${asciiJson(name)}: ${asciiJson(fileName)}`)
  const head = Object.entries(metadata).map(([key, value]) => `    "${key}": ${value}`)
  return `{\n  "metadata": {\n${head.join(',\n')}\n  },\n  "weight_map": {\n${lines.join(',\n')}\n  }\n}\n`
}

/** JSON as Python's json.dumps writes it: everything outside ASCII escaped. */
function asciiJson(text: string): string {
  return JSON.stringify(text).replace(/[\u007f-\uffff]/g, (c) =>
    c === '\u007f' ? c : `\\u${c.charCodeAt(0).toString(16).padStart(4, '0')}`,
  )
}

async function removeOthers(folder: string, baseName: string, keep: ReadonlySet<string>): Promise<void> {
  const isShard = /^-\d{5}-of-\d{5}\.safetensors$/
  try {
    for (const name of await readdir(folder)) {
      if (keep.has(name) || !name.startsWith(baseName)) continue
      const rest = name.slice(baseName.length)
      if (rest === '.safetensors' || rest === '.safetensors.index.json' || isShard.test(rest))
        await rm(join(folder, name))
    }
    await syncFolder(folder)
  } catch (error) {
    throw systemError(folder, error)
  }
}
