import { copyFile, mkdir, readFile, readdir, rename, rm } from 'node:fs/promises'
import { basename, dirname, join, resolve } from 'node:path'
import { dequantizeNf4, quantizeNf4 } from '@mirastral/quant'
import {
  SafetensorsFolder,
  bytesOf,
  f32ToBf16,
  f32ToF16,
  toFloat32,
  writeShardedSafetensors,
} from '@mirastral/safetensors'
import type { SafetensorsReader } from '@mirastral/safetensors'
import { LoraError } from './errors.js'
import { writeFileAtomically } from './files.js'
import { mergeBias, mergeRows } from './merge-layer.js'
import type { FloatDtype, MergeRounding } from './merge-layer.js'
import { isFloat, planMerge } from './merge-plan.js'
import type { MergedTensor } from './merge-plan.js'
import { modulesOfCheckpoint } from './modules.js'
import { loadAdapter } from './weights.js'

export interface MergeOptions {
  /**
   * Which weights the adapter is added to. `full` (the default): those of the base folder. `nf4`: the same after
   * rounding to NF4 and back, which is what a 4-bit run trained on.
   */
  readonly baseWeights?: 'full' | 'nf4'
  /** For `nf4`: values per block (64) and linear layers that stayed in full precision. */
  readonly nf4?: { readonly blockSize?: number; readonly skipModules?: readonly string[] }
  readonly rounding?: MergeRounding
  /** Element type of the merged model; as in the base folder unless told. */
  readonly dtype?: FloatDtype
  /** Largest shard, bytes; 5e9 unless told. */
  readonly maxShardBytes?: number
  /** Called before each tensor is written. */
  readonly onTensor?: (name: string, index: number, count: number) => void
}

export interface MergeReport {
  /** Files of the output folder. */
  readonly files: readonly string[]
  /** Linear layers that the adapter was added to. */
  readonly mergedLayers: number
  /** Parameters that were replaced by trained copies. */
  readonly replacedParameters: number
  readonly baseWeights: 'full' | 'nf4'
  readonly warnings: readonly string[]
}

/** What a model folder holds besides weights and is the same after merging. */
const companions = [
  'generation_config.json',
  'tokenizer.json',
  'tokenizer_config.json',
  'tokenizer.model',
  'special_tokens_map.json',
  'added_tokens.json',
  'vocab.json',
  'merges.txt',
  'chat_template.jinja',
]

/** Elements that are worked on at once: a matrix is merged some rows at a time, so that memory stays flat. */
const CHUNK_ELEMENTS = 2 ** 23

/**
 * Merges an adapter into a model folder and writes the result as a new one that needs no adapter: sharded safetensors,
 * configuration, tokenizer files, and a README.md that says what was merged into what. Streams: the memory needed is a
 * few hundred megabytes whatever the size of the model.
 *
 * @param base a Hugging Face model folder in full precision (F32, F16 or BF16)
 * @param adapter an adapter folder, of ours or of PEFT
 * @param out a folder that does not exist yet or is empty; it appears only when it is complete
 * @throws LoraError MIRASTRAL_LORA_MERGE when base, adapter or folder do not fit; SafetensorsError for damaged files
 */
export async function mergeAdapter(
  base: string,
  adapter: string,
  out: string,
  options: MergeOptions = {},
): Promise<MergeReport> {
  const { baseWeights = 'full' } = options
  await refuseUsedFolder(out)
  const reader = await SafetensorsFolder.open(base)
  const temporary = join(dirname(resolve(out)), `.${basename(out)}.${process.pid}.incomplete`)
  try {
    refuseQuantized(base, reader)
    const config = await readConfig(base)
    const loaded = await loadAdapter(adapter, modulesOfCheckpoint(reader.tensors))
    const { blockSize = 64, skipModules = [] } = options.nf4 ?? {}
    const nf4 = baseWeights === 'nf4' ? { blockSize, skipModules } : null
    const { tensors, untied } = planMerge(reader, loaded.adapter, nf4, options.dtype ?? null)
    await mkdir(temporary, { recursive: true })
    const provenance = describe(loaded.adapter.plan.config.baseModelNameOrPath ?? basename(resolve(base)), options)
    const files = await writeTensors(reader, tensors, temporary, provenance, options)
    files.push(...(await copyCompanions(base, temporary)))
    await writeFileAtomically(join(temporary, 'README.md'), readme(provenance))
    await writeFileAtomically(join(temporary, 'config.json'), mergedConfig(config, untied, options.dtype))
    await rm(out, { recursive: true, force: true })
    await rename(temporary, out)
    return {
      files: [...files, 'README.md', 'config.json'],
      mergedLayers: loaded.adapter.plan.layers.length,
      replacedParameters: tensors.filter((t) => t.step.kind === 'replace').length,
      baseWeights,
      warnings: loaded.warnings,
    }
  } finally {
    await reader.close()
    await rm(temporary, { recursive: true, force: true })
  }
}

async function refuseUsedFolder(out: string): Promise<void> {
  const present = await readdir(out).catch((error: unknown) => {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return []
    throw new LoraError('MIRASTRAL_LORA_MERGE', `${out}: cannot be used as the output folder`, { cause: error })
  })
  if (present.length > 0) {
    throw new LoraError(
      'MIRASTRAL_LORA_MERGE',
      `${out}: must be a new or empty folder, got one with ${present.length} entries`,
    )
  }
}

function refuseQuantized(base: string, reader: SafetensorsReader): void {
  const packed = [...reader.tensors.keys()].find((name) => /\.quant_state\.bitsandbytes__\w+$/.test(name))
  if (packed === undefined) return
  throw new LoraError(
    'MIRASTRAL_LORA_MERGE',
    `${base}: holds 4-bit weights; merge into the full-precision model, with baseWeights "nf4" for what was trained`,
  )
}

async function readConfig(base: string): Promise<Record<string, unknown>> {
  const path = join(base, 'config.json')
  try {
    return JSON.parse(await readFile(path, 'utf8')) as Record<string, unknown>
  } catch (cause) {
    throw new LoraError('MIRASTRAL_LORA_MERGE', `${path}: cannot be read as JSON`, { cause })
  }
}

function mergedConfig(config: Record<string, unknown>, untied: boolean, dtype: FloatDtype | undefined): string {
  const result = { ...config }
  if (untied) result.tie_word_embeddings = false
  const names = { F32: 'float32', F16: 'float16', BF16: 'bfloat16' } as const
  for (const key of ['dtype', 'torch_dtype']) {
    if (dtype !== undefined && key in result) result[key] = names[dtype]
  }
  return `${JSON.stringify(result, null, 2)}\n`
}

async function copyCompanions(base: string, out: string): Promise<string[]> {
  const present = new Set(await readdir(base))
  const found = companions.filter((name) => present.has(name))
  for (const name of found) await copyFile(join(base, name), join(out, name))
  return found
}

async function writeTensors(
  reader: SafetensorsReader,
  tensors: readonly MergedTensor[],
  folder: string,
  provenance: Provenance,
  options: MergeOptions,
): Promise<string[]> {
  let begun = 0
  const entries = tensors.map((tensor) => ({
    name: tensor.name,
    dtype: tensor.dtype,
    shape: [...tensor.shape],
    data: (): AsyncIterable<Uint8Array> => {
      options.onTensor?.(tensor.name, begun++, tensors.length)
      return mergedBytes(reader, tensor, options.rounding ?? 'once')
    },
  }))
  const shardOptions = options.maxShardBytes === undefined ? {} : { maxShardBytes: options.maxShardBytes }
  return writeShardedSafetensors(folder, entries, { ...shardOptions, metadata: { format: 'pt', ...provenance } })
}

/** The bytes of one tensor of the merged model, some rows at a time. */
async function* mergedBytes(
  reader: SafetensorsReader,
  tensor: MergedTensor,
  rounding: MergeRounding,
): AsyncGenerator<Uint8Array> {
  const { name, source, shape, step, dtype } = tensor
  const info = reader.tensors.get(source)
  if (info === undefined) throw new LoraError('MIRASTRAL_LORA_MERGE', `internal: no tensor ${source}`, { exitCode: 1 })
  const rows = shape[0] ?? 1
  const width = shape.slice(1).reduce((a, b) => a * b, 1)
  const bytesPerRow = info.byteLength / Math.max(rows, 1)
  for (let first = 0, stride = rowsPerChunk(tensor, width); first < rows; first += stride) {
    const end = Math.min(first + stride, rows)
    const raw = await reader.readRange(source, first * bytesPerRow, end * bytesPerRow)
    if (step.kind === 'copy' && dtype === info.dtype) {
      yield raw
      continue
    }
    const before = step.kind === 'replace' ? step.data.slice(first * width, end * width) : toFloat32(info.dtype, raw)
    const after = changed(before, tensor, first, width, rounding)
    if (step.kind !== 'copy' && !after.every(Number.isFinite)) {
      throw new LoraError(
        'MIRASTRAL_LORA_MERGE',
        `${name}: has values that are not finite after merging; the adapter is broken`,
      )
    }
    yield encode(after, isFloat(dtype) ? dtype : 'F32')
  }
}

/** A number of rows that holds whole NF4 blocks, so that a block is rounded as it was in training. */
function rowsPerChunk({ step }: MergedTensor, width: number): number {
  const rows = Math.max(1, Math.floor(CHUNK_ELEMENTS / Math.max(width, 1)))
  const blockSize = step.kind === 'round' || step.kind === 'weight' ? (step.blockSize ?? 1) : 1
  return Math.max(blockSize, rows - (rows % blockSize))
}

function changed(
  values: Float32Array,
  { step, dtype }: MergedTensor,
  firstRow: number,
  width: number,
  rounding: MergeRounding,
): Float32Array {
  const target = isFloat(dtype) ? dtype : 'F32'
  switch (step.kind) {
    case 'copy':
    case 'replace':
      return values
    case 'round':
      return throughNf4(values, width, step.blockSize)
    case 'weight': {
      const base = step.blockSize === null ? values : throughNf4(values, width, step.blockSize)
      return mergeRows(base, step.adapter, firstRow, target, rounding)
    }
    case 'bias':
      return mergeBias(values, step.loraBias.subarray(firstRow, firstRow + values.length), step.scaling)
  }
}

function throughNf4(values: Float32Array, width: number, blockSize: number): Float32Array {
  return dequantizeNf4(quantizeNf4(values, { blockSize, shape: [values.length / width, width] }))
}

function encode(data: Float32Array, dtype: FloatDtype): Uint8Array {
  if (dtype === 'F16') return bytesOf(f32ToF16(data))
  return bytesOf(dtype === 'BF16' ? f32ToBf16(data) : data)
}

/** What is recorded with the merged model, in the metadata of its files and its README. */
type Provenance = Record<'mirastral.base_model' | 'mirastral.base_weights' | 'mirastral.rounding', string>

function describe(baseModel: string, { baseWeights = 'full', nf4, rounding = 'once' }: MergeOptions): Provenance {
  return {
    'mirastral.base_model': baseModel,
    'mirastral.base_weights': baseWeights === 'full' ? 'full' : `nf4, block size ${nf4?.blockSize ?? 64}`,
    'mirastral.rounding': rounding,
  }
}

function readme(provenance: Provenance): string {
  const weights =
    provenance['mirastral.base_weights'] === 'full'
      ? 'the weights of the base model as they are published (full precision)'
      : `the weights of the base model after rounding to 4 bits and back (${provenance['mirastral.base_weights']}), which are what the adapter was trained on`
  return `---
base_model: ${JSON.stringify(provenance['mirastral.base_model'])}
base_model_relation: merge
library_name: transformers
pipeline_tag: text-generation
tags:
- lora
- merged
---

# Merged model

A LoRA adapter merged by MiraStral into ${weights}. Rounding of 16-bit weights: ${provenance['mirastral.rounding']}.

It needs no adapter and no PEFT:

\`\`\`python
from transformers import AutoModelForCausalLM

model = AutoModelForCausalLM.from_pretrained("<this folder>")
\`\`\`
`
}
