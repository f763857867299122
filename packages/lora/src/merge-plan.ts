import { isConverted } from '@mirastral/quant'
import type { TensorInfo } from '@mirastral/safetensors'
import { LoraError, listProblems } from './errors.js'
import type { Adapter } from './init.js'
import { adapterKey, adapterTensors, parameterOfKey } from './keys.js'
import type { FloatDtype, LayerAdapter } from './merge-layer.js'
import type { MergeBase } from './merge-base.js'

/** What becomes of one tensor of the base model. */
export type MergeStep =
  | { readonly kind: 'copy' }
  | { readonly kind: 'round'; readonly blockSize: number }
  | { readonly kind: 'weight'; readonly adapter: LayerAdapter; readonly blockSize: number | null }
  | { readonly kind: 'bias'; readonly loraBias: Float32Array; readonly scaling: number }
  | { readonly kind: 'replace'; readonly data: Float32Array }

/** One tensor of the merged model. */
export interface MergedTensor {
  readonly name: string
  readonly shape: readonly number[]
  readonly dtype: TensorInfo['dtype']
  /** The tensor of the base model that it is made from. */
  readonly source: string
  readonly step: MergeStep
}

/** Which base weights are rounded to NF4 before merging: those of linear layers but the output embedding. */
export interface Nf4Choice {
  readonly blockSize: number
  readonly skipModules: readonly string[]
}

const INPUT = 'model.embed_tokens.weight'
const OUTPUT = 'lm_head.weight'

export function isFloat(dtype: TensorInfo['dtype']): dtype is FloatDtype {
  return dtype === 'F32' || dtype === 'F16' || dtype === 'BF16'
}

function need(adapter: Adapter, key: string): Float32Array {
  const tensor = adapter.tensors.get(key)
  if (tensor !== undefined) return tensor.data
  throw new LoraError('MIRASTRAL_LORA_MERGE', `internal: the adapter has no tensor ${key}`, { exitCode: 1 })
}

/** The steps for every tensor that the adapter touches, by parameter name. */
function adapterSteps(adapter: Adapter, blockSizeOf: (name: string) => number | null): Map<string, MergeStep> {
  const { plan } = adapter
  const steps = new Map<string, MergeStep>()
  for (const layer of plan.layers) {
    const { module, scaling } = layer
    const magnitude = plan.config.useDora ? need(adapter, adapterKey(module, 'lora_magnitude_vector')) : undefined
    const values = {
      layer,
      a: need(adapter, adapterKey(module, 'lora_A.weight')),
      b: need(adapter, adapterKey(module, 'lora_B.weight')),
      ...(magnitude === undefined ? {} : { magnitude }),
    }
    const name = `${module}.weight`
    steps.set(name, { kind: 'weight', adapter: values, blockSize: blockSizeOf(name) })
    if (plan.config.loraBias) {
      const loraBias = need(adapter, adapterKey(module, 'lora_B.bias'))
      steps.set(`${module}.bias`, { kind: 'bias', loraBias, scaling })
    }
  }
  for (const key of adapterTensors({ ...plan, layers: [] }).keys()) {
    steps.set(parameterOfKey(key), { kind: 'replace', data: need(adapter, key) })
  }
  return steps
}

/**
 * Decides what each tensor of the merged model is made from, in the order of the base model. Where the embeddings are
 * tied and the adapter holds one of them, the output gets both.
 *
 * @param dtype how the tensors that change are stored; as in the base model where null
 * @throws LoraError MIRASTRAL_LORA_MERGE that names every tensor that cannot be merged into
 */
export function planMerge(
  base: MergeBase,
  adapter: Adapter,
  nf4: Nf4Choice | null,
  dtype: FloatDtype | null,
): { tensors: MergedTensor[]; untied: boolean } {
  const quantized = new Set(
    [...base.tensors]
      .filter(([name, info]) => nf4 !== null && isConverted(name, info, nf4.skipModules))
      .map(([name]) => name),
  )
  const blockSizeOf = (name: string): number | null => (quantized.has(name) ? (nf4?.blockSize ?? null) : null)
  const steps = adapterSteps(adapter, blockSizeOf)
  const problems: string[] = []
  const tensors: MergedTensor[] = []
  const sources = [...base.tensors.keys()].map((name) => [name, name] as const)
  const untied = !base.tensors.has(OUTPUT) && (steps.has(INPUT) || steps.has(OUTPUT))
  for (const [name, source] of untied ? [...sources, [OUTPUT, INPUT] as const] : sources) {
    const info = base.tensors.get(source)
    if (info === undefined) continue
    const blockSize = blockSizeOf(name)
    // A weight that the adapter leaves alone is, with NF4, still what training saw: the rounded one.
    const untouched: MergeStep = blockSize === null ? { kind: 'copy' } : { kind: 'round', blockSize }
    const step = steps.get(name) ?? untouched
    steps.delete(name)
    if (step.kind !== 'copy' && !isFloat(info.dtype)) {
      problems.push(`${name}: must be F32, F16 or BF16 to be merged into, got ${info.dtype}`)
    }
    tensors.push({
      name,
      source,
      shape: info.shape,
      dtype: dtype !== null && isFloat(info.dtype) ? dtype : info.dtype,
      step,
    })
  }
  for (const [name, step] of steps) {
    const why = step.kind === 'bias' ? '; an adapter with lora_bias needs a base layer with a bias' : ''
    problems.push(`${name}: is not in the base model${why}`)
  }
  if (problems.length > 0) throw new LoraError('MIRASTRAL_LORA_MERGE', listProblems(base.path, problems))
  return { tensors, untied }
}
