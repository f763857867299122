import {
  add,
  cast,
  concat,
  dequantize,
  detach,
  div,
  dropout,
  f32,
  linear,
  matmul,
  mul,
  scale,
  slice,
  sqrt,
  sub,
  sum,
  transpose,
} from '@mirastral/engine'
import type { Value } from '@mirastral/engine'
import type { ForwardContext } from '@mirastral/models'
import { changesBase } from './config.js'
import { LoraError, listProblems } from './errors.js'
import { adapterKey, adapterTensors, parameterOfKey } from './keys.js'
import type { LoraPart } from './keys.js'
import type { LoraLayer, LoraPlan } from './targets.js'

/** The name under which a session holds an adapter tensor: `adapter/<PEFT key>`, f32. */
export const adapterName = (key: string): string => `adapter/${key}`

/** The name of a tensor of `InitialAdapter.subtracted`: a constant of the session, f32. */
export const subtractedName = (key: string): string => `adapter.subtracted/${key}`

export interface LoraGraphOptions {
  /** `state` (the default) where the adapter is trained in the session, `constant` where it never changes. */
  readonly role?: 'state' | 'constant'
  /**
   * Seeds, i32[2] each: with them the adapter's input is dropped with the configured probability, as in training. With
   * several, the rows are so many equal parts one after the other, each of them dropped as it would be alone with its seed.
   */
  readonly dropoutSeeds?: readonly Value[]
}

/** A forward pass with an adapter. */
export interface LoraContext extends ForwardContext {
  /** The adapter's tensors by PEFT key, in the order of `adapterTensors(plan)`: what is trained. */
  readonly trainable: ReadonlyMap<string, Value>
}

/** A layer's adapter tensors in the dtype of the activations. */
interface Pair {
  readonly a: Value
  readonly b: Value
}

interface Scope {
  readonly ctx: ForwardContext
  readonly plan: LoraPlan
  readonly options: LoraGraphOptions
  readonly value: (layer: LoraLayer, part: LoraPart) => Value
  readonly subtracted: (layer: LoraLayer, part: LoraPart) => Value
}

/**
 * Puts an adapter into a model's forward pass: linear layers of the plan compute `y = W x + scaling * B (A dropout(x))`,
 * or DoRA's form of it, and modules trained in full use their trained copy. Every tensor of `trainable` must be bound in
 * the session under {@link adapterName}, and every one of `InitialAdapter.subtracted` under {@link subtractedName}.
 *
 * @throws LoraError MIRASTRAL_LORA_TARGET for what the forward passes here cannot adapt
 */
export function withLora(ctx: ForwardContext, plan: LoraPlan, options: LoraGraphOptions = {}): LoraContext {
  refuseUnsupported(plan)
  const { graph } = ctx
  const { role = 'state' } = options
  const trainable = new Map<string, Value>()
  for (const [key, shape] of adapterTensors(plan)) trainable.set(key, graph[role](adapterName(key), f32(...shape)))
  const trained = (key: string): Value => {
    const value = trainable.get(key)
    if (value !== undefined) return value
    throw new LoraError('MIRASTRAL_LORA_TARGET', `internal: the plan has no tensor ${key}`, { exitCode: 1 })
  }
  const savedKeys = [...adapterTensors({ ...plan, layers: [] }).keys()]
  const saved = new Map(savedKeys.map((key) => [parameterOfKey(key), trained(key)]))
  const scope: Scope = {
    ctx,
    plan,
    options,
    value: (layer, part) => trained(adapterKey(layer.module, part)),
    subtracted: (layer, part) => {
      const shape = part === 'lora_A.weight' ? [layer.rank, layer.inFeatures] : [layer.outFeatures, layer.rank]
      return graph.constant(subtractedName(adapterKey(layer.module, part)), f32(...shape))
    },
  }
  const layers = new Map(plan.layers.map((layer, stream) => [layer.module, { layer, stream }]))
  return {
    graph,
    trainable,
    parameter: (name) => saved.get(name) ?? ctx.parameter(name),
    linear: (name, x) => {
      const weight = saved.get(`${name}.weight`)
      if (weight !== undefined) return savedLinear(x, weight, saved.get(`${name}.bias`))
      const found = layers.get(name)
      return found === undefined ? ctx.linear(name, x) : adaptedLinear(scope, found.layer, found.stream, x)
    },
  }
}

/** What PEFT can adapt and the forward passes here have no place for. */
function refuseUnsupported(plan: LoraPlan): void {
  const problems = plan.savedModules
    .filter((m) => m.tied === true)
    .map((m) => `modulesToSave: ${m.name} shares its weight with the other embedding and cannot be trained alone`)
  if (plan.layers.some((layer) => layer.module === 'lm_head')) {
    problems.push('targetModules: lm_head cannot carry a low-rank adapter; name it in modulesToSave')
  }
  if (problems.length > 0) throw new LoraError('MIRASTRAL_LORA_TARGET', listProblems('LoRA', problems))
}

const typed = (value: Value, x: Value): Value => cast(value, x.dtype)

function savedLinear(x: Value, weight: Value, bias: Value | undefined): Value {
  const y = linear(x, typed(weight, x))
  return bias === undefined ? y : add(y, typed(bias, x))
}

function adaptedLinear(scope: Scope, layer: LoraLayer, stream: number, x: Value): Value {
  const { ctx, plan, options, value, subtracted } = scope
  const { loraDropout, useDora, loraBias, initLoraWeights } = plan.config
  const dropped = loraDropout > 0 ? dropParts(x, options.dropoutSeeds ?? [], { p: loraDropout, stream }) : x
  const pair: Pair = { a: typed(value(layer, 'lora_A.weight'), x), b: typed(value(layer, 'lora_B.weight'), x) }
  const base = ctx.linear(layer.module, x)
  if (useDora) return doraLinear(scope, layer, pair, { x, dropped, base })
  let update = lowRank(dropped, pair, layer.scaling)
  if (loraBias) update = add(update, scale(typed(value(layer, 'lora_B.bias'), x), layer.scaling))
  if (!changesBase(initLoraWeights)) return add(base, update)
  // What the initialisation took off the base belongs to the base, which sees x as it is.
  const began = { a: typed(subtracted(layer, 'lora_A.weight'), x), b: typed(subtracted(layer, 'lora_B.weight'), x) }
  return add(sub(base, lowRank(x, began, layer.scaling)), update)
}

function dropParts(x: Value, seeds: readonly Value[], site: { readonly p: number; readonly stream: number }): Value {
  if (seeds.length === 0) return x
  if (seeds.length === 1) return dropout(x, seeds[0], site)
  const size = x.shape[0] / seeds.length
  const parts = seeds.map((seed, i) => dropout(slice(x, { axis: 0, start: i * size, end: (i + 1) * size }), seed, site))
  return concat(parts, 0)
}

/** `scaling * B A x`. */
const lowRank = (x: Value, { a, b }: Pair, scaling: number): Value => linear(linear(x, a), b, { alpha: scaling })

/**
 * DoRA (arXiv 2402.09353): `y = base + (f - 1) (base - bias) + f scaling B A x` with `f = m / ||W + scaling B A||` by rows
 * of W, the norm taken as a number. Where x is dropped, W sees the dropped x in the second term too
 * (peft/tuners/lora/dora.py).
 */
function doraLinear(
  { ctx, value }: Scope,
  layer: LoraLayer,
  pair: Pair,
  { x, dropped, base }: { x: Value; dropped: Value; base: Value },
): Value {
  const weight = ctx.parameter(`${layer.module}.weight`)
  const norm = directionNorm(weight, value(layer, 'lora_A.weight'), value(layer, 'lora_B.weight'), layer)
  const factor = typed(div(value(layer, 'lora_magnitude_vector'), norm), x)
  const unbiased = (): Value => (layer.hasBias ? sub(base, ctx.parameter(`${layer.module}.bias`)) : base)
  const plain = dropped === x ? unbiased() : linear(dropped, weight)
  return add(base, add(mul(scale(factor, 1, -1), plain), mul(factor, lowRank(dropped, pair, layer.scaling))))
}

/**
 * `||W + s B A||` by rows, f32 [out], without building the sum: its square is `||W||² + 2 s <B, W Aᵀ> + s² <B, B A Aᵀ>`,
 * inner products by rows.
 */
function directionNorm(weight: Value, a: Value, b: Value, { scaling }: LoraLayer): Value {
  const [constantA, constantB] = [detach(a), detach(b)]
  const dense = weight.dtype === 'nf4' ? dequantize(weight) : cast(weight, 'f32')
  const crossed = transpose(linear(constantA, weight.dtype === 'nf4' ? weight : dense), [1, 0])
  const squares = matmul(constantB, matmul(constantA, constantA, { transposeB: true }))
  const mixed = add(scale(crossed, 2 * scaling), scale(squares, scaling ** 2))
  return sqrt(add(rowSum(mul(dense, dense)), rowSum(mul(mixed, constantB))))
}

const rowSum = (x: Value): Value => sum(x, { axes: [1] })
