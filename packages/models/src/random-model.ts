import { sizeOf } from '@mirastral/engine'
import type { TensorEntry } from '@mirastral/safetensors'
import { bytesOf, f32ToBf16, f32ToF16, writeShardedSafetensors } from '@mirastral/safetensors'
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import type { ModelConfig, StorageDtype } from './config.js'
import { ModelError, reasonOf } from './errors.js'
import { writeJsonFile } from './json-file.js'
import type { ParameterSpec } from './parameters.js'
import { checkpointKey } from './parameters.js'
import { RandomNumbers } from './random-numbers.js'
import { architectureOf, parseModelConfig } from './registry.js'

export interface RandomModelOptions {
  /** Equal seeds and configurations give equal bytes. */
  seed: number
  /** Standard deviation of linear and embedding weights; default the configuration's initializer_range. */
  std?: number
  /** How the weights are stored; default the configuration's dtype, else float32. */
  dtype?: StorageDtype
  /** Larger checkpoints are split; default 5e9 bytes. */
  maxShardBytes?: number
}

const storage = {
  float32: { name: 'F32', encode: (data: Float32Array) => bytesOf(data) },
  float16: { name: 'F16', encode: (data: Float32Array) => bytesOf(f32ToF16(data)) },
  bfloat16: { name: 'BF16', encode: (data: Float32Array) => bytesOf(f32ToBf16(data)) },
} as const

/** Numbers made and written at a time: 1 MiB of float32. */
const pieceLength = 2 ** 18

/** The values of a parameter at initialisation, as Transformers does it: norms 1, biases 0, all else normal. */
function* initialValues(spec: ParameterSpec, seed: number, std: number): Generator<Float32Array> {
  const numbers = new RandomNumbers(`${seed}/${checkpointKey(spec)}`)
  for (let left = sizeOf(spec.shape); left > 0; left -= pieceLength) {
    const piece = new Float32Array(Math.min(left, pieceLength))
    if (spec.kind === 'norm') piece.fill(1)
    else if (spec.kind !== 'bias') numbers.fillNormal(piece, std)
    yield piece
  }
}

/** A parameter as an entry of a safetensors file, made when it is written. */
export function randomEntry(spec: ParameterSpec, seed: number, std: number, dtype: StorageDtype): TensorEntry {
  const { name, encode } = storage[dtype]
  const data = function* (): Generator<Uint8Array> {
    for (const piece of initialValues(spec, seed, std)) yield encode(piece)
  }
  return { name: checkpointKey(spec), dtype: name, shape: spec.shape, data }
}

/** Makes the folder, writes the weights, and the configuration last: a folder without it is not finished. */
export async function writeModelFolder(
  folder: string,
  json: Readonly<Record<string, unknown>>,
  entries: Iterable<TensorEntry>,
  maxShardBytes: number | undefined,
): Promise<void> {
  try {
    await mkdir(folder, { recursive: true })
  } catch (error) {
    throw new ModelError('access', `${folder}: cannot be made (${reasonOf(error)})`, [], { cause: error })
  }
  await writeShardedSafetensors(folder, entries, {
    metadata: { format: 'pt' },
    ...(maxShardBytes ? { maxShardBytes } : {}),
  })
  await writeJsonFile(join(folder, 'config.json'), json)
}

/**
 * Writes a randomly initialised model as a Hugging Face folder: config.json and safetensors. Memory stays flat. The
 * bytes depend on the configuration and seed alone. Throws ModelError (kind `config`, `access`) or SafetensorsError.
 */
export async function writeRandomModel(
  folder: string,
  json: Readonly<Record<string, unknown>>,
  options: RandomModelOptions,
): Promise<ModelConfig> {
  const config = parseModelConfig(json, `${folder}: configuration`)
  const dtype = options.dtype ?? config.dtype ?? 'float32'
  const { dtype: _v5, torch_dtype: _v4, ...rest } = json
  const entries = architectureOf(config)
    .parameters(config)
    .map((spec) => randomEntry(spec, options.seed, options.std ?? config.initializerRange, dtype))
  await writeModelFolder(folder, { ...rest, dtype }, entries, options.maxShardBytes)
  return config
}
