import { f32ToF16, writeFileAtomically } from '@mirastral/safetensors'
import { LoraError, listProblems } from './errors.js'
import { GgufWriter } from './gguf-container.js'
import type { Adapter } from './init.js'
import { adapterKey } from './keys.js'
import type { LoraLayer } from './targets.js'

/** What the writer must know of the base model; the names are those of its `config.json`, in camelCase. */
export interface GgufBase {
  readonly modelType: string
  readonly numAttentionHeads: number
  readonly numKeyValueHeads: number
}

export interface GgufOptions {
  /** How A and B are stored; F32 unless told. */
  readonly dtype?: 'F32' | 'F16'
  /** Shown by tools as the adapter's name. */
  readonly name?: string
}

/** GGUF architecture of a Hugging Face model type, and whether its conversion reorders the rows of q and k. */
const architectures: Readonly<Record<string, { name: string; permuted: boolean }>> = {
  llama: { name: 'llama', permuted: true },
  mistral: { name: 'llama', permuted: true },
  qwen2: { name: 'qwen2', permuted: false },
  qwen3: { name: 'qwen3', permuted: false },
}

const blockNames: Readonly<Record<string, string>> = {
  'self_attn.q_proj': 'attn_q',
  'self_attn.k_proj': 'attn_k',
  'self_attn.v_proj': 'attn_v',
  'self_attn.o_proj': 'attn_output',
  'mlp.gate_proj': 'ffn_gate',
  'mlp.up_proj': 'ffn_up',
  'mlp.down_proj': 'ffn_down',
}

/** The GGUF name of a module's weight (gguf-py/gguf/tensor_mapping.py), undefined where there is none. */
function tensorName(module: string): string | undefined {
  if (module === 'lm_head') return 'output.weight'
  const found = /^model\.layers\.(\d+)\.(.+)$/.exec(module)
  const name = found === null ? undefined : blockNames[found[2]]
  return found === null || name === undefined ? undefined : `blk.${found[1]}.${name}.weight`
}

/**
 * Rows of a `[heads * d, n]` matrix from the half-split order of Hugging Face to the interleaved order of GGML's rotary
 * embedding: within a head 0, d/2, 1, d/2 + 1, ... (llama.cpp, LlamaModel.permute).
 */
function interleaveHeads(rowsOf: Float32Array, rows: number, heads: number): Float32Array {
  const width = rowsOf.length / rows
  const perHead = rows / heads
  const result = new Float32Array(rowsOf.length)
  for (let row = 0; row < rows; row++) {
    const within = row % perHead
    const source = row - within + Math.floor(within / 2) + (within % 2) * (perHead / 2)
    result.set(rowsOf.subarray(source * width, (source + 1) * width), row * width)
  }
  return result
}

/** What GGUF cannot hold: everything but plain pairs of A and B. */
function refusals({ plan }: Adapter, base: GgufBase): string[] {
  const problems: string[] = []
  if (architectures[base.modelType] === undefined) {
    problems.push(`model type ${JSON.stringify(base.modelType)} has no GGUF mapping here`)
  }
  const advice = 'is not representable; merge the adapter into the base model and convert that'
  if (plan.config.useDora) problems.push(`useDora ${advice}`)
  if (plan.config.loraBias) problems.push(`loraBias ${advice}`)
  if (plan.savedModules.length > 0)
    problems.push(`modulesToSave (${plan.savedModules.map((m) => m.name).join(', ')}) ${advice}`)
  for (const { module } of plan.layers) {
    if (tensorName(module) === undefined) problems.push(`module ${module} has no GGUF name`)
  }
  for (const [field, value] of Object.entries({ heads: base.numAttentionHeads, kvHeads: base.numKeyValueHeads })) {
    if (!Number.isInteger(value) || value < 1)
      problems.push(`${field} must be a whole number of at least 1, got ${value}`)
  }
  return problems
}

/**
 * The one alpha of the file, from which llama.cpp takes `alpha / rank` as the scale of every pair; where a pair's own
 * scale is another, B carries the difference.
 */
function commonAlpha(layers: readonly LoraLayer[]): number {
  const [first] = layers
  return Math.fround(first.scaling * first.rank)
}

function scaledB(b: Float32Array, { scaling, rank }: LoraLayer, alpha: number): Float32Array {
  const factor = (scaling * rank) / alpha
  return Math.abs(factor - 1) < 1e-6 ? b : b.map((value) => value * factor)
}

/**
 * Writes an adapter as a GGUF LoRA file for llama.cpp and Ollama, as `convert_lora_to_gguf.py` does, but with every
 * module's true scale (rank-stabilised LoRA and patterns of rank and alpha included).
 *
 * @throws LoraError MIRASTRAL_LORA_EXPORT that names everything GGUF cannot hold
 */
export async function writeGgufAdapter(
  path: string,
  adapter: Adapter,
  base: GgufBase,
  options: GgufOptions = {},
): Promise<void> {
  const problems = refusals(adapter, base)
  if (problems.length > 0) throw new LoraError('MIRASTRAL_LORA_EXPORT', listProblems('GGUF adapter', problems))
  const { layers } = adapter.plan
  const { name: architecture, permuted } = architectures[base.modelType]
  const alpha = commonAlpha(layers)
  const file = new GgufWriter()
  file.addString('general.architecture', architecture)
  file.addString('general.type', 'adapter')
  file.addString('adapter.type', 'lora')
  file.addFloat32('adapter.lora.alpha', alpha)
  if (options.name !== undefined) file.addString('general.name', options.name)
  const heads: Readonly<Record<string, number>> = { q_proj: base.numAttentionHeads, k_proj: base.numKeyValueHeads }
  for (const layer of layers) {
    const values = (part: 'lora_A.weight' | 'lora_B.weight'): Float32Array => {
      const tensor = adapter.tensors.get(adapterKey(layer.module, part))
      if (tensor !== undefined) return tensor.data
      throw new LoraError('MIRASTRAL_LORA_EXPORT', `internal: no tensor ${part} of ${layer.module}`, { exitCode: 1 })
    }
    const count = permuted ? heads[layer.module.slice(layer.module.lastIndexOf('.') + 1)] : undefined
    const b = scaledB(values('lora_B.weight'), layer, alpha)
    const ordered = count === undefined ? b : interleaveHeads(b, layer.outFeatures, count)
    const name = tensorName(layer.module) ?? ''
    addMatrix(file, `${name}.lora_a`, [layer.rank, layer.inFeatures], values('lora_A.weight'), options)
    addMatrix(file, `${name}.lora_b`, [layer.outFeatures, layer.rank], ordered, options)
  }
  await writeFileAtomically(path, file.bytes())
}

function addMatrix(
  file: GgufWriter,
  name: string,
  shape: readonly number[],
  data: Float32Array,
  { dtype = 'F32' }: GgufOptions,
): void {
  file.addTensor(name, dtype, shape, dtype === 'F16' ? f32ToF16(data) : data)
}

/** What an Ollama Modelfile says besides its adapter. */
export interface ModelfileOptions {
  /** The base: a model name of Ollama's library, or the path of a GGUF file of the same model. */
  readonly from: string
  /** Path of the GGUF adapter, absolute or relative to the Modelfile. */
  readonly adapter: string
  /** System prompt of every conversation. */
  readonly system?: string
  /** `PARAMETER` lines, such as `temperature`. */
  readonly parameters?: Readonly<Record<string, string | number>>
}

/**
 * The text of an Ollama Modelfile that puts an adapter on a base model.
 *
 * @throws LoraError MIRASTRAL_LORA_EXPORT when a value cannot be written into a Modelfile
 */
export function formatModelfile({ from, adapter, system, parameters = {} }: ModelfileOptions): string {
  for (const [name, value] of Object.entries({ from, adapter, ...parameters })) {
    if (/[\r\n]/.test(String(value)) || String(value) === '') {
      throw new LoraError('MIRASTRAL_LORA_EXPORT', `Modelfile: ${name} must be one line that is not empty`)
    }
  }
  if (system?.includes('"""')) {
    throw new LoraError('MIRASTRAL_LORA_EXPORT', 'Modelfile: the system prompt must not contain """')
  }
  const lines = [`FROM ${from}`, `ADAPTER ${adapter}`]
  for (const [name, value] of Object.entries(parameters)) lines.push(`PARAMETER ${name} ${value}`)
  if (system !== undefined) lines.push(`SYSTEM """${system}"""`)
  return `${lines.join('\n')}\n`
}
