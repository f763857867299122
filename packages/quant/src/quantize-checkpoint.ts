import { copyFile, mkdir, readFile, readdir, realpath, stat } from 'node:fs/promises'
import { join } from 'node:path'
import type { SafetensorsReader, TensorEntry } from '@mirastral/safetensors'
import {
  SafetensorsFolder,
  bytesOf,
  elementCount,
  tensorBytes,
  writeFileAtomically,
  writeShardedSafetensors,
} from '@mirastral/safetensors'
import { fourBitStateEntries, fourBitWeights } from './bnb-checkpoint.js'
import { addQuantizationConfig } from './bnb-config.js'
import type { QuantType } from './codebook.js'
import { isConverted } from './converted-modules.js'
import { nestAbsmax } from './double-quant.js'
import { QuantError } from './errors.js'
import { QuantPool } from './pool.js'
import { Spool } from './spool.js'
import type { FloatDtype, FourBitTensor } from './tensor.js'
import { checkBlockSize } from './tensor.js'

export interface QuantizeCheckpointOptions {
  /** Default `nf4`. */
  quantType?: QuantType
  /** Default 64, which is what Transformers makes; it loads the others too. */
  blockSize?: number
  /** Store the scales in 8 bits, 4.127 instead of 4.5 bits per weight; default false. */
  doubleQuant?: boolean
  /** Linear layers to keep in full precision beside the output embedding; see `isConverted`. */
  skipModules?: readonly string[]
  /** Default: one per available core. */
  threads?: number
  /** Default 5e9 bytes. */
  maxShardBytes?: number
  /** See `nestAbsmax`. */
  torchThreads?: number
  /** Called after each tensor with the source bytes done so far and in all. */
  onProgress?: (doneBytes: number, totalBytes: number) => void
}

export interface QuantizedCheckpoint {
  /** Names of the weight files and the index in the folder. */
  files: string[]
  /** Numbers of tensors that were quantized and that were kept. */
  quantizedTensors: number
  keptTensors: number
  /** Bytes of tensors read and written. */
  sourceBytes: number
  writtenBytes: number
}

/**
 * Quantizes a model folder (config.json, safetensors in one file or in shards) to another one that Transformers with
 * bitsandbytes, and MiraStral, load as a pre-quantized 4-bit model. Weights stream through all cores; memory holds two
 * quantized tensors at most, and the quantized model is kept beside the result in a temporary file until it is written.
 * config.json is written last, so that a folder without it is not a model yet. Tokenizer and other small files are
 * copied. Throws QuantError (`malformed`, `usage`, `non-finite` naming the tensor, `io`) and SafetensorsError.
 */
export async function quantizeCheckpoint(
  folder: string,
  out: string,
  options: QuantizeCheckpointOptions = {},
): Promise<QuantizedCheckpoint> {
  checkBlockSize('quantizeCheckpoint', options.blockSize ?? 64)
  const reader = await SafetensorsFolder.open(folder)
  try {
    const config = await planConfig(folder, reader, options)
    await prepareFolder(folder, out)
    const result = await quantizeWeights(reader, out, options)
    await copySideFiles(folder, out)
    await writeFileAtomically(join(out, 'config.json'), config)
    return result
  } catch (error) {
    if (error instanceof Error && 'exitCode' in error) throw error
    const reason = error instanceof Error ? error.message : String(error)
    throw new QuantError('io', `quantizeCheckpoint ${folder}: ${reason}`, { cause: error })
  } finally {
    await reader.close()
  }
}

/** The text of the new config.json; refuses what cannot be quantized before any work is done. */
async function planConfig(
  folder: string,
  reader: SafetensorsReader,
  { quantType = 'nf4', doubleQuant = false, skipModules = [] }: QuantizeCheckpointOptions,
): Promise<string> {
  const path = join(folder, 'config.json')
  const text = await readFile(path, 'utf8').catch((error: unknown) => {
    throw new QuantError('malformed', `${folder}: a model folder must hold a readable config.json`, { cause: error })
  })
  const first = [...reader.tensors].find(([name, info]) => isConverted(name, info, skipModules))
  if (fourBitWeights(reader).size > 0) {
    throw new QuantError('malformed', `${folder}: the model must be in full precision, got 4-bit weights`)
  }
  if (!first) {
    throw new QuantError(
      'malformed',
      `${folder}: the model must have linear layers in F32, F16 or BF16, got none to quantize`,
    )
  }
  const computeDtypes: Partial<Record<string, FloatDtype>> = { F32: 'float32', F16: 'float16' }
  return addQuantizationConfig(path, text, {
    quantType,
    doubleQuant,
    computeDtype: computeDtypes[first[1].dtype] ?? 'bfloat16',
    // Naming any module switches Transformers' own choice off, so the output embedding has to be named as well.
    skipModules: skipModules.length > 0 ? ['lm_head', ...skipModules] : null,
  })
}

async function prepareFolder(folder: string, out: string): Promise<void> {
  try {
    await mkdir(out, { recursive: true })
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error)
    throw new QuantError('usage', `quantizeCheckpoint: the folder ${out} must be writable: ${reason}`, { cause: error })
  }
  if ((await realpath(folder)) === (await realpath(out))) {
    throw new QuantError('usage', `quantizeCheckpoint: out must be another folder than the model's, got ${out}`)
  }
}

async function quantizeWeights(
  reader: SafetensorsFolder,
  out: string,
  options: QuantizeCheckpointOptions,
): Promise<QuantizedCheckpoint> {
  const { skipModules, threads, maxShardBytes, onProgress } = options
  const spool = await Spool.create(out)
  const pool = QuantPool.start(threads === undefined ? {} : { threads })
  try {
    const converted = [...reader.tensors]
      .filter(([name, info]) => isConverted(name, info, skipModules))
      .map(([name]) => name)
    const quantized = quantizeAll(pool, reader, converted, options)
    const entries: TensorEntry[] = []
    const totalBytes = sum(reader.tensors.values(), ({ byteLength }) => byteLength)
    let doneBytes = 0
    const isInFourBits = new Set(converted)
    for (const [name, info] of reader.tensors) {
      if (isInFourBits.has(name)) {
        const { value: tensor } = await quantized.next()
        if (tensor) entries.push(...(await spooledEntries(spool, name, tensor, options)))
      } else {
        entries.push({
          name,
          dtype: info.dtype,
          shape: info.shape,
          data: () => storedPieces(reader, name, info.byteLength),
        })
      }
      doneBytes += info.byteLength
      onProgress?.(doneBytes, totalBytes)
    }
    const files = await writeShardedSafetensors(out, entries, {
      metadata: { format: 'pt' },
      totalParameters: sum(reader.tensors.values(), ({ shape }) => elementCount(shape) ?? 0),
      ...(maxShardBytes === undefined ? {} : { maxShardBytes }),
    })
    return {
      files,
      quantizedTensors: converted.length,
      keptTensors: reader.tensors.size - converted.length,
      sourceBytes: totalBytes,
      writtenBytes: sum(entries, ({ dtype, shape }) => tensorBytes(dtype, shape) ?? 0),
    }
  } finally {
    await Promise.all([pool.close(), spool.remove()])
  }
}

/** The named tensors in 4 bits, in order. The next one is on its way while a result is used. */
async function* quantizeAll(
  pool: QuantPool,
  reader: SafetensorsReader,
  names: readonly string[],
  { quantType = 'nf4', blockSize = 64 }: QuantizeCheckpointOptions,
): AsyncGenerator<FourBitTensor, void> {
  const start = (index: number): Promise<FourBitTensor> | undefined => {
    const name = names[index]
    if (name === undefined) return undefined
    const tensor = pool.quantizeStored(reader, name, quantType, { blockSize })
    // It is awaited later; until then a failure must not count as unhandled.
    tensor.catch(() => undefined)
    return tensor
  }
  let current = start(0)
  for (let i = 1; current; i++) {
    const next = start(i)
    yield await current
    current = next
  }
}

/** The entries of one weight; its codes and scales, once they have their final form, go to the spool. */
async function spooledEntries(
  spool: Spool,
  name: string,
  tensor: FourBitTensor,
  { doubleQuant = false, torchThreads }: QuantizeCheckpointOptions,
): Promise<TensorEntry[]> {
  const nestOptions = torchThreads === undefined ? { name } : { name, torchThreads }
  const absmax = doubleQuant ? nestAbsmax(tensor.absmax, nestOptions) : tensor.absmax
  const codes = { name, dtype: 'U8', shape: [tensor.codes.length, 1], data: tensor.codes } as const
  const entries: TensorEntry[] = []
  for (const entry of [codes, ...fourBitStateEntries(name, tensor, absmax)]) {
    if (typeof entry.data === 'function' || entry.data.byteLength < 4096) entries.push(entry)
    else entries.push({ ...entry, data: await spool.append(bytesOf(entry.data)) })
  }
  return entries
}

async function* storedPieces(reader: SafetensorsReader, name: string, byteLength: number): AsyncIterable<Uint8Array> {
  const pieceBytes = 2 ** 23
  for (let start = 0; start < byteLength; start += pieceBytes) {
    yield reader.readRange(name, start, Math.min(start + pieceBytes, byteLength))
  }
}

/** What is not copied: weights in any format, their indexes, and the configuration, which changes. */
const notCopied = /\.(safetensors|bin|pt|pth|ckpt|gguf|h5|msgpack|onnx|ot)$|\.index\.json$|^config\.json$|^\./

async function copySideFiles(folder: string, out: string): Promise<void> {
  for (const name of await readdir(folder)) {
    if (notCopied.test(name) || !(await stat(join(folder, name))).isFile()) continue
    await copyFile(join(folder, name), join(out, name))
  }
}

function sum<T>(items: Iterable<T>, sizeOf: (item: T) => number): number {
  let total = 0
  for (const item of items) total += sizeOf(item)
  return total
}
