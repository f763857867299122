import { copyFile, mkdir, readFile, readdir, rename, rm } from 'node:fs/promises'
import { basename, dirname, join, resolve } from 'node:path'
import { quantizeCheckpoint } from '@mirastral/quant'
import { writeFileAtomically } from '@mirastral/safetensors'
import { LoraError } from './errors.js'
import { openMergeBase } from './merge-base.js'
import type { MergeBase } from './merge-base.js'
import type { FloatDtype, MergeRounding } from './merge-layer.js'
import { planMerge } from './merge-plan.js'
import { writeMerged } from './merge-write.js'
import { portableModelName } from './model-id.js'
import { modulesOfCheckpoint } from './modules.js'
import { loadAdapter } from './weights.js'

export interface MergeOptions {
  /**
   * Which weights the adapter is added to. `full`: those of a base folder in full precision, which is its default. `nf4`:
   * what a 4-bit run trained on: the same weights after rounding to NF4 and back, or, of a folder that is stored in 4
   * bits, the weights that it stands for, which is its default.
   */
  readonly baseWeights?: 'full' | 'nf4'
  /** For `nf4` of a folder in full precision: values per block (64) and linear layers that stayed as they are. */
  readonly nf4?: { readonly blockSize?: number; readonly skipModules?: readonly string[] }
  readonly rounding?: MergeRounding
  /** Element type of the merged model; as in the base folder unless told. */
  readonly dtype?: FloatDtype
  /** `nf4` rounds the merged weights to 4 bits again; needs `allowLossy`. `dense` unless told. */
  readonly output?: 'dense' | 'nf4'
  /** Agrees that rounding to 4 bits again loses part of what was trained. */
  readonly allowLossy?: boolean
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

/**
 * Merges an adapter into a model folder and writes the result as a new one that needs no adapter: sharded safetensors,
 * configuration, tokenizer files, and a README.md that says what was merged into what. Streams: the memory needed is a
 * few hundred megabytes whatever the size of the model.
 *
 * @param base a Hugging Face model folder, in full precision (F32, F16 or BF16) or in bitsandbytes' 4 bits
 * @param adapter an adapter folder, of ours or of PEFT
 * @param out a folder that does not exist yet or is empty; it appears only when it is complete
 * @throws LoraError MIRASTRAL_LORA_MERGE when base, adapter or folder do not fit, or the output would be lossy and that
 *   was not asked for; SafetensorsError and QuantError for damaged files
 */
export async function mergeAdapter(
  base: string,
  adapter: string,
  out: string,
  options: MergeOptions = {},
): Promise<MergeReport> {
  refuseLoss(options)
  await refuseUsedFolder(out)
  const temporary = join(dirname(resolve(out)), `.${basename(out)}.${process.pid}.incomplete`)
  try {
    const report = await mergeInto(join(temporary, 'dense'), base, adapter, options)
    const result = options.output === 'nf4' ? await inFourBits(temporary, options) : join(temporary, 'dense')
    await rm(out, { recursive: true, force: true })
    await rename(result, out)
    return { ...report, files: (await readdir(out)).sort() }
  } finally {
    await rm(temporary, { recursive: true, force: true })
  }
}

function refuseLoss({ output, allowLossy }: MergeOptions): void {
  if (output !== 'nf4' || allowLossy === true) return
  throw new LoraError(
    'MIRASTRAL_LORA_MERGE',
    'mergeAdapter: rounding merged weights to 4 bits again loses part of what was trained; keep the adapter beside the ' +
      '4-bit base, write a dense model, or agree with allowLossy',
  )
}

async function refuseUsedFolder(out: string): Promise<void> {
  const present = await readdir(out).catch((error: unknown) => {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return []
    throw new LoraError('MIRASTRAL_LORA_MERGE', `${out}: cannot be used as the output folder`, { cause: error })
  })
  if (present.length > 0) {
    const entries = present.length === 1 ? '1 entry' : `${present.length} entries`
    throw new LoraError('MIRASTRAL_LORA_MERGE', `${out}: must be a new or empty folder, got one with ${entries}`)
  }
}

async function inFourBits(temporary: string, { maxShardBytes }: MergeOptions): Promise<string> {
  const result = join(temporary, 'four-bit')
  await quantizeCheckpoint(join(temporary, 'dense'), result, maxShardBytes === undefined ? {} : { maxShardBytes })
  return result
}

async function mergeInto(
  folder: string,
  base: string,
  adapter: string,
  options: MergeOptions,
): Promise<Omit<MergeReport, 'files'>> {
  const reader = await openMergeBase(base)
  try {
    const baseWeights = weightsOf(reader, options)
    const config = await readConfig(base)
    const loaded = await loadAdapter(adapter, modulesOfCheckpoint(reader.tensors))
    const { blockSize = 64, skipModules = [] } = options.nf4 ?? {}
    const nf4 = baseWeights === 'nf4' && reader.fourBit.size === 0 ? { blockSize, skipModules } : null
    const { tensors, untied } = planMerge(reader, loaded.adapter, nf4, options.dtype ?? null)
    const { baseModelNameOrPath } = loaded.adapter.plan.config
    const provenance: Provenance = {
      'mirastral.base_model': portableModelName(baseModelNameOrPath ?? resolve(base)),
      'mirastral.base_weights': baseWeights === 'full' ? 'full' : fourBitNote(nf4?.blockSize),
      'mirastral.rounding': options.rounding ?? 'once',
      'mirastral.output': options.output ?? 'dense',
    }
    await mkdir(folder, { recursive: true })
    await writeMerged(reader, tensors, folder, {
      rounding: options.rounding ?? 'once',
      maxShardBytes: options.maxShardBytes,
      metadata: provenance,
      onTensor: options.onTensor,
    })
    await copyCompanions(base, folder)
    await writeFileAtomically(join(folder, 'README.md'), readme(provenance))
    await writeFileAtomically(join(folder, 'config.json'), mergedConfig(config, untied, options.dtype))
    return {
      mergedLayers: loaded.adapter.plan.layers.length,
      replacedParameters: tensors.filter((t) => t.step.kind === 'replace').length,
      baseWeights,
      warnings: loaded.warnings,
    }
  } finally {
    await reader.close()
  }
}

function weightsOf(base: MergeBase, { baseWeights }: MergeOptions): 'full' | 'nf4' {
  const stored = base.fourBit.size > 0 ? 'nf4' : 'full'
  if (stored === 'nf4' && baseWeights === 'full') {
    throw new LoraError(
      'MIRASTRAL_LORA_MERGE',
      `${base.path}: holds 4-bit weights; for baseWeights "full" give the folder of the model in full precision`,
    )
  }
  return baseWeights ?? stored
}

const fourBitNote = (blockSize: number | undefined): string =>
  blockSize === undefined ? '4-bit, as stored' : `nf4, block size ${blockSize}`

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
  delete result.quantization_config
  if (untied) result.tie_word_embeddings = false
  const names = { F32: 'float32', F16: 'float16', BF16: 'bfloat16' } as const
  for (const key of ['dtype', 'torch_dtype']) {
    if (dtype !== undefined && key in result) result[key] = names[dtype]
  }
  return `${JSON.stringify(result, null, 2)}\n`
}

async function copyCompanions(base: string, out: string): Promise<void> {
  const present = new Set(await readdir(base))
  for (const name of companions.filter((c) => present.has(c))) await copyFile(join(base, name), join(out, name))
}

/** What is recorded with the merged model, in the metadata of its files and its README. */
type Provenance = Record<
  'mirastral.base_model' | 'mirastral.base_weights' | 'mirastral.rounding' | 'mirastral.output',
  string
>

function readme(provenance: Provenance): string {
  const note = provenance['mirastral.base_weights']
  const weights =
    note === 'full'
      ? 'the weights of the base model as they are published (full precision)'
      : `the weights of the base model after rounding to 4 bits and back (${note}), which are what the adapter was trained on`
  const again =
    provenance['mirastral.output'] === 'nf4'
      ? '\n\nThe merged weights were then rounded to 4 bits again, which loses part of what was trained.'
      : ''
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

A LoRA adapter merged by MiraStral into ${weights}. Rounding of 16-bit weights: ${provenance['mirastral.rounding']}.${again}

It needs no adapter and no PEFT:

\`\`\`python
from transformers import AutoModelForCausalLM

model = AutoModelForCausalLM.from_pretrained("<this folder>")
\`\`\`
`
}
