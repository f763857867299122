import { fourBitWeights } from '@mirastral/quant'
import type { SafetensorsReader, TensorInfo } from '@mirastral/safetensors'
import { SafetensorsFolder } from '@mirastral/safetensors'
import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import * as z from 'zod'
import type { ModelConfig } from './config.js'
import { ModelError, nameSome, reasonOf } from './errors.js'
import { readJsonFile } from './json-file.js'
import type { ParameterSpec } from './parameters.js'
import { checkpointKey } from './parameters.js'
import { architectureOf, parseModelConfig } from './registry.js'

/** How a parameter is stored: plain numbers, or bitsandbytes' 4 bits with a scale for every `blockSize` elements. */
export type StoredAs = { readonly format: 'dense' } | { readonly format: 'nf4' | 'fp4'; readonly blockSize: number }

/** A model folder whose every tensor has been checked against its configuration; no weight has been read yet. */
export interface Checkpoint {
  readonly folder: string
  readonly config: ModelConfig
  readonly parameters: readonly ParameterSpec[]
  readonly reader: SafetensorsReader
  /** By checkpoint key, for every parameter. */
  readonly stored: ReadonlyMap<string, StoredAs>
}

const denseDtypes: readonly string[] = ['F32', 'F16', 'BF16']
/** Buffers that old checkpoints carry and nobody needs. */
const ignorable = /\.rotary_emb\.inv_freq$|\.(?:masked_bias|attn\.bias)$/
/** What bitsandbytes stores beside the codes of a 4-bit weight. */
const quantParts = ['absmax', 'quant_map', 'nested_absmax', 'nested_quant_map']

const quantStateSchema = z.object({ blocksize: z.int().positive(), shape: z.array(z.int().nonnegative()) })
/** bitsandbytes writes about 150 bytes. */
const maxQuantStateBytes = 4096

interface Findings {
  readonly missing: string[]
  readonly unexpected: string[]
  readonly wrong: string[]
}

function checkDense(key: string, info: TensorInfo, shape: readonly number[], wrong: string[]): void {
  const got = `${info.dtype}[${info.shape.join(',')}]`
  if (info.shape.join() !== shape.join()) wrong.push(`${key} must be [${shape.join(',')}], got ${got}`)
  else if (!denseDtypes.includes(info.dtype)) wrong.push(`${key} must be F32, F16 or BF16, got ${got}`)
}

/** Reads the description of a 4-bit weight; its sizes are checked again, all of them, when the weight is read. */
async function checkFourBit(
  reader: SafetensorsReader,
  key: string,
  format: 'nf4' | 'fp4',
  shape: readonly number[],
  wrong: string[],
): Promise<StoredAs> {
  const stateKey = `${key}.quant_state.bitsandbytes__${format}`
  let json: unknown = null
  if ((reader.tensors.get(stateKey)?.byteLength ?? 0) <= maxQuantStateBytes) {
    try {
      json = JSON.parse(new TextDecoder().decode(await reader.read(stateKey)))
    } catch (error) {
      if (!(error instanceof SyntaxError)) throw error
    }
  }
  const state = quantStateSchema.safeParse(json)
  if (!state.success) wrong.push(`${stateKey} must describe the weight in JSON`)
  else if (state.data.shape.join() !== shape.join()) {
    wrong.push(`${key} must be [${shape.join(',')}], got ${format}[${state.data.shape.join(',')}]`)
  }
  return { format, blockSize: state.data?.blocksize ?? 64 }
}

/** Compares what the configuration implies with what the files hold. */
async function compare(parameters: readonly ParameterSpec[], reader: SafetensorsReader, config: ModelConfig) {
  const findings: Findings = { missing: [], unexpected: [], wrong: [] }
  const stored = new Map<string, StoredAs>()
  const fourBit = fourBitWeights(reader)
  // A tied head may be stored all the same: the input embedding is what counts, as in Transformers.
  const known = new Set(config.tieWordEmbeddings ? ['lm_head.weight'] : [])
  for (const spec of parameters) {
    const key = checkpointKey(spec)
    known.add(key)
    const info = reader.tensors.get(key)
    const format = spec.kind === 'linear' ? fourBit.get(key) : undefined
    if (!info) findings.missing.push(key)
    else if (format) {
      for (const part of [...quantParts, `quant_state.bitsandbytes__${format}`]) known.add(`${key}.${part}`)
      stored.set(key, await checkFourBit(reader, key, format, spec.shape, findings.wrong))
    } else {
      stored.set(key, { format: 'dense' })
      checkDense(key, info, spec.shape, findings.wrong)
    }
  }
  for (const key of reader.tensors.keys()) {
    if (!known.has(key) && !ignorable.test(key)) findings.unexpected.push(key)
  }
  return { findings, stored }
}

function findingsError(folder: string, { missing, unexpected, wrong }: Findings): ModelError | null {
  const groups = [
    ...(missing.length > 0 ? [`missing ${missing.length}: ${nameSome(missing)}`] : []),
    ...(unexpected.length > 0 ? [`unexpected ${unexpected.length}: ${nameSome(unexpected)}`] : []),
    ...wrong.slice(0, 8),
    ...(wrong.length > 8 ? [`and ${wrong.length - 8} more of the wrong shape or dtype`] : []),
  ]
  if (groups.length === 0) return null
  const problems = [
    ...missing.map((key) => `missing ${key}`),
    ...unexpected.map((key) => `unexpected ${key}`),
    ...wrong,
  ]
  const message = `${folder}: the tensors must be those of config.json; ${groups.join('; ')}`
  return new ModelError('checkpoint', message, problems)
}

/** What to say of a folder that is not a model folder. */
async function checkFolder(folder: string): Promise<void> {
  let names: string[]
  try {
    names = await readdir(folder)
  } catch (error) {
    throw new ModelError('access', `${folder}: must be a model folder (${reasonOf(error)})`, [], { cause: error })
  }
  if (!names.includes('config.json')) {
    const rule = names.includes('adapter_config.json')
      ? 'it holds an adapter; give its base model'
      : 'there is no config.json'
    throw new ModelError(
      'access',
      `${folder}: must be a model folder with config.json and safetensors weights; ${rule}`,
    )
  }
  if (!names.some((name) => name.endsWith('.safetensors') || name.endsWith('.safetensors.index.json'))) {
    const other = names.find((name) => /\.(?:bin|pth?|gguf)$/.test(name))
    const rule = other ? `it has ${other}; convert it with Transformers' save_pretrained` : 'there are no weights'
    throw new ModelError('access', `${folder}: must hold safetensors weights; ${rule}`)
  }
}

/**
 * Opens a Hugging Face model folder: reads config.json and the headers of its safetensors files, and checks every
 * tensor. Throws ModelError: `access`, `config`, or `checkpoint` with all missing, unexpected and mis-shaped tensors at
 * once; or SafetensorsError for a damaged file. Close the reader when done.
 */
export async function openCheckpoint(folder: string): Promise<Checkpoint> {
  await checkFolder(folder)
  const path = join(folder, 'config.json')
  const config = parseModelConfig(await readJsonFile(path), path)
  const reader = await SafetensorsFolder.open(folder)
  const parameters = architectureOf(config).parameters(config)
  try {
    const { findings, stored } = await compare(parameters, reader, config)
    const error = findingsError(folder, findings)
    if (error) throw error
    return { folder, config, parameters, reader, stored }
  } catch (error) {
    await reader.close()
    throw error
  }
}
