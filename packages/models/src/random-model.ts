import { sizeOf } from '@mirastral/engine'
import { fourBitStateEntries } from '@mirastral/quant'
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
function randomEntry(spec: ParameterSpec, seed: number, std: number, dtype: StorageDtype): TensorEntry {
  const { name, encode } = storage[dtype]
  const data = function* (): Generator<Uint8Array> {
    for (const piece of initialValues(spec, seed, std)) yield encode(piece)
  }
  return { name: checkpointKey(spec), dtype: name, shape: spec.shape, data }
}

/** Makes the folder, writes the weights, and the configuration last: a folder without it is not finished. */
async function writeModelFolder(
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

const blockSize = 64

/** Random 4-bit codes, all sixteen equally frequent. */
function* randomCodes(seed: string, bytes: number): Generator<Uint8Array> {
  const numbers = new RandomNumbers(`${seed}/codes`)
  for (let left = bytes; left > 0; left -= 4 * pieceLength) {
    const words = new Int32Array(Math.ceil(Math.min(left, 4 * pieceLength) / 4))
    numbers.fillBits(words)
    yield bytesOf(words).subarray(0, Math.min(left, 4 * pieceLength))
  }
}

/** Random scales: the codebook's root mean square is 0.525, so scales of about 1.9 deviations give weights of one. */
function* randomScales(seed: string, count: number, std: number): Generator<Uint8Array> {
  const numbers = new RandomNumbers(`${seed}/absmax`)
  for (let left = count; left > 0; left -= pieceLength) {
    const piece = new Float32Array(Math.min(left, pieceLength))
    for (let i = 0; i < piece.length; i++) piece[i] = std * (1.4 + numbers.uniform())
    yield bytesOf(piece)
  }
}

/** A linear layer as bitsandbytes stores it in 4 bits, made when it is written. */
function randomNf4Entries(spec: ParameterSpec, seed: number, std: number, dtype: StorageDtype): TensorEntry[] {
  const name = checkpointKey(spec)
  const count = sizeOf(spec.shape)
  const [bytes, blocks] = [Math.ceil(count / 2), Math.ceil(count / blockSize)]
  const description = { quantType: 'nf4', blockSize, dtype, shape: spec.shape } as const
  const state = fourBitStateEntries(name, description, new Float32Array(0)).map((entry) =>
    entry.name.endsWith('.absmax')
      ? { ...entry, shape: [blocks], data: () => randomScales(`${seed}/${name}`, blocks, std) }
      : entry,
  )
  return [{ name, dtype: 'U8', shape: [bytes, 1], data: () => randomCodes(`${seed}/${name}`, bytes) }, ...state]
}

/**
 * As `writeRandomModel`, with linear layers in bitsandbytes' NF4 layout (blocks of 64): a 7B model takes about 4.5 GB
 * of disk and no memory to speak of. Default dtype of the rest: bfloat16.
 */
export async function writeRandomNf4Model(
  folder: string,
  json: Readonly<Record<string, unknown>>,
  options: RandomModelOptions,
): Promise<ModelConfig> {
  const { dtype: _v5, torch_dtype: _v4, ...rest } = json
  const dtype = options.dtype ?? 'bfloat16'
  const quantization = { quant_method: 'bitsandbytes', load_in_4bit: true, bnb_4bit_quant_type: 'nf4' }
  const whole = { ...rest, dtype, quantization_config: { ...quantization, bnb_4bit_compute_dtype: dtype } }
  const config = parseModelConfig(whole, `${folder}: configuration`)
  const std = options.std ?? config.initializerRange
  const entries = architectureOf(config)
    .parameters(config)
    .flatMap((spec) =>
      spec.kind === 'linear'
        ? randomNf4Entries(spec, options.seed, std, dtype)
        : [randomEntry(spec, options.seed, std, dtype)],
    )
  await writeModelFolder(folder, whole, entries, options.maxShardBytes)
  return config
}
