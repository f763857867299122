import type { TensorInfo } from '@mirastral/safetensors'
import type { ModuleInfo } from './targets.js'

/** A parameter as `@mirastral/models` lists it: linear layers by module name, all others by their key. */
interface ParameterLike {
  readonly name: string
  readonly shape: readonly number[]
  readonly kind: 'linear' | 'embedding' | 'norm' | 'bias'
}

const INPUT_EMBEDDING = 'model.embed_tokens'
const OUTPUT_EMBEDDING = 'lm_head'

/**
 * The output embedding is a linear layer for PEFT; where it shares its weight with the input embedding it has no
 * parameter of its own and yet is a module.
 */
function withOutput(modules: ModuleInfo[]): ModuleInfo[] {
  const input = modules.find((m) => m.name === INPUT_EMBEDDING)
  if (input === undefined || modules.some((m) => m.name === OUTPUT_EMBEDDING)) return modules
  const tied = modules.map((m) => (m === input ? { ...m, tied: true } : m))
  return [...tied, { name: OUTPUT_EMBEDDING, kind: 'linear', shape: input.shape, isOutput: true, tied: true }]
}

/** The modules of a model, from `architecture.parameters(config)` of `@mirastral/models`. */
export function modulesOfModel(parameters: readonly ParameterLike[]): ModuleInfo[] {
  const keys = new Set(parameters.map((p) => p.name))
  const modules = parameters.flatMap(({ name, shape, kind }): ModuleInfo[] => {
    if (kind === 'bias') return []
    const module = name.replace(/\.weight$/, '')
    if (module === OUTPUT_EMBEDDING) return [{ name: module, kind: 'linear', shape, isOutput: true }]
    if (kind !== 'linear') return [{ name: module, kind, shape }]
    return [{ name: module, kind, shape, ...(keys.has(`${module}.bias`) ? { hasBias: true } : {}) }]
  })
  return withOutput(modules)
}

/**
 * The modules of a checkpoint in full precision, from its tensors alone: a matrix `X.weight` is a linear layer (an
 * embedding where X is `embed_tokens`), a vector `X.weight` a norm.
 */
export function modulesOfCheckpoint(tensors: ReadonlyMap<string, Pick<TensorInfo, 'shape'>>): ModuleInfo[] {
  const modules = [...tensors].flatMap(([key, { shape }]): ModuleInfo[] => {
    if (!key.endsWith('.weight') || shape.length === 0 || shape.length > 2) return []
    const name = key.slice(0, -'.weight'.length)
    if (shape.length === 1) return [{ name, kind: 'norm', shape }]
    if (/(^|\.)embed_tokens$/.test(name)) return [{ name, kind: 'embedding', shape }]
    if (name === OUTPUT_EMBEDDING) return [{ name, kind: 'linear', shape, isOutput: true }]
    return [{ name, kind: 'linear', shape, ...(tensors.has(`${name}.bias`) ? { hasBias: true } : {}) }]
  })
  return withOutput(modules)
}
