import { stat } from 'node:fs/promises'
import { resolve } from 'node:path'
import type { Architecture } from './architecture.js'
import type { Checkpoint } from './checkpoint.js'
import { openCheckpoint } from './checkpoint.js'
import type { ModelConfig } from './config.js'
import { ModelError } from './errors.js'
import type { HubSnapshot } from './hub.js'
import { downloadModel } from './hub.js'
import type { HubOptions } from './hub-access.js'
import { modelIdentity } from './identity.js'
import type { QuantizedCacheOptions } from './quantized-cache.js'
import { cachedCheckpoint } from './quantized-cache.js'
import { architectureOf } from './registry.js'
import type { WeightOptions, Weights } from './weights.js'
import { checkpointWeights } from './weights.js'

export interface LoadOptions extends WeightOptions, QuantizedCacheOptions {
  /** Branch, tag or commit of a model on the Hub; also as `owner/name@revision`. Default `main`. */
  revision?: string
  hub?: HubOptions
}

/** A model, ready to be bound to an engine session. */
export interface LoadedModel {
  /** `owner/name` on the Hub, or the absolute path of the folder: what an adapter names as its base. */
  readonly name: string
  /** The commit on the Hub; null for a folder. */
  readonly commit: string | null
  /** Where its files are; the tokenizer's too. */
  readonly folder: string
  readonly config: ModelConfig
  readonly architecture: Architecture
  readonly weights: Weights
  /** SHA-256 that tells this model from others; see `modelIdentity`. */
  readonly identity: string
  /** Things that the user should know, one line each. */
  readonly warnings: readonly string[]
}

async function isFolder(path: string): Promise<boolean> {
  try {
    return (await stat(path)).isDirectory()
  } catch {
    return false
  }
}

/** A folder on this machine, or a snapshot of the Hub. A path that exists is a folder; `owner/name` else is on the Hub. */
export async function locateModel(
  source: string,
  options: Pick<LoadOptions, 'revision' | 'hub'> = {},
): Promise<Pick<LoadedModel, 'name' | 'commit' | 'folder'>> {
  if (await isFolder(source)) return { name: resolve(source), commit: null, folder: resolve(source) }
  const match = /^([\w.-]+\/[\w.-]+)(?:@([\w./-]+))?$/.exec(source)
  if (!match || source.startsWith('.') || source.startsWith('/')) {
    throw new ModelError('access', `model: must be a folder that exists, or owner/name on the Hub, got ${source}`)
  }
  const snapshot: HubSnapshot = await downloadModel(match[1], match[2] ?? options.revision, options.hub)
  return { name: snapshot.repo, commit: snapshot.commit, folder: snapshot.folder }
}

/**
 * Opens a model from a folder or from the Hub (`owner/name[@revision]`), checks it, and gives its weights one at a time:
 * linear layers in NF4 unless told otherwise. Only headers are read until `weights.get`.
 * Throws ModelError, SafetensorsError or QuantError.
 */
export async function loadModel(source: string, options: LoadOptions = {}): Promise<LoadedModel> {
  const located = await locateModel(source, options)
  const checkpoint = await openCheckpoint(located.folder)
  try {
    const identity = await modelIdentity(checkpoint)
    const cached = await cachedCheckpoint(checkpoint, identity, options)
    return {
      ...located,
      config: checkpoint.config,
      architecture: architectureOf(checkpoint.config),
      weights: checkpointWeights(cached.checkpoint, options),
      identity,
      warnings: [...checkpoint.config.warnings, ...storageWarnings(checkpoint), ...cached.warnings],
    }
  } catch (error) {
    await checkpoint.reader.close()
    throw error
  }
}

function storageWarnings({ stored }: Checkpoint): string[] {
  const count = [...stored.values()].filter(({ format }) => format === 'fp4').length
  if (count === 0) return []
  return [
    `${count} linear layers are stored in FP4, which is computed without 4-bit kernels: they are held in full precision`,
  ]
}
