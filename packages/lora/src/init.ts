import { changesBase } from './config.js'
import type { LoraConfig } from './config.js'
import { LoraError } from './errors.js'
import { adapterKey, adapterTensors, doubledRanks, layerTensors, parameterOfKey } from './keys.js'
import { randomOrthogonal, topQr, topSvd } from './linalg.js'
import type { DenseWeight, Rows } from './linalg.js'
import { lowRankProduct, rowNorms } from './low-rank.js'
import { Random } from './random.js'
import type { LoraLayer, LoraPlan } from './targets.js'

/** One tensor of an adapter, float32, row-major. */
export interface AdapterTensor {
  readonly shape: readonly number[]
  readonly data: Float32Array
}

/** An adapter's tensors by PEFT key. */
export type AdapterTensors = ReadonlyMap<string, AdapterTensor>

/** An adapter for one model: what it acts on, and its values. */
export interface Adapter {
  readonly plan: LoraPlan
  readonly tensors: AdapterTensors
}

export interface InitOptions {
  /** The same seed gives the same values. */
  readonly seed: number
  /**
   * Reads a parameter of the base model by its Hugging Face name (`<module>.weight`), dense float32. Needed for PiSSA,
   * OLoRA, DoRA and modules trained in full; not called otherwise.
   */
  readonly readParameter?: (name: string) => Promise<Float32Array>
}

/** An adapter before its first step. */
export interface InitialAdapter extends Adapter {
  /**
   * A and B as they began, for initialisations that take their product off the base weight (PiSSA, OLoRA); empty
   * otherwise. The layer then computes `y = W x + scaling * (B A - B0 A0) x`, which is PEFT's `(W - scaling * B0 A0) x +
   * scaling * B A x` without changing W.
   */
  readonly subtracted: AdapterTensors
}

interface LayerValues {
  readonly a: Float32Array
  readonly b: Float32Array
}

/**
 * The first values of an adapter, by PEFT's formulas (peft/tuners/lora/layer.py):
 * - `true`: A Kaiming-uniform with a = sqrt(5), which is U(-1/sqrt(in), 1/sqrt(in)); B zero;
 * - `false`: both random as torch's `nn.Linear` has them, so that the adapter is not neutral;
 * - `gaussian`: A normal with deviation 1/r, B zero;
 * - `orthogonal`: rows of A and columns of B from the odd and even rows of one random orthogonal matrix, over 10;
 * - `pissa` (arXiv 2404.02948): the largest r singular directions of W, `pissa_niter_<n>` by n subspace iterations;
 * - `olora` (arXiv 2406.01775): the first r columns of Q and rows of R of `W = Q R`.
 * DoRA's magnitudes begin as the row norms of W + scaling B A. Modules trained in full begin as they are.
 *
 * @throws LoraError MIRASTRAL_LORA_INIT when base weights are needed and there is no `readParameter`
 */
export async function initializeAdapter(plan: LoraPlan, options: InitOptions): Promise<InitialAdapter> {
  const { config } = plan
  const tensors = new Map<string, AdapterTensor>()
  const subtracted = new Map<string, AdapterTensor>()
  const readParameter = parameterReader(config, options)
  for (const layer of plan.layers) {
    const readWeight = async (): Promise<DenseWeight> => {
      const data = await readParameter(`${layer.module}.weight`)
      return { out: layer.outFeatures, in: layer.inFeatures, data }
    }
    const random = new Random(options.seed, layer.module)
    const { a, b } = await layerValues(layer, config, random, readWeight)
    const values = { 'lora_A.weight': a, 'lora_B.weight': b }
    for (const [part, shape] of layerTensors(layer, config)) {
      let data: Float32Array
      if (part === 'lora_magnitude_vector') data = await initialMagnitude(layer, { a, b }, readWeight)
      else if (part === 'lora_B.bias') data = initialBias(layer, config, random)
      else data = values[part]
      tensors.set(adapterKey(layer.module, part), { shape, data })
      if (changesBase(config.initLoraWeights)) {
        subtracted.set(adapterKey(layer.module, part), { shape, data: data.slice() })
      }
    }
  }
  for (const [key, shape] of adapterTensors(plan)) {
    if (!tensors.has(key)) tensors.set(key, { shape, data: (await readParameter(parameterOfKey(key))).slice() })
  }
  return { plan, tensors, subtracted }
}

function parameterReader(config: LoraConfig, options: InitOptions): (name: string) => Promise<Float32Array> {
  return (
    options.readParameter ??
    ((name) => {
      const init = JSON.stringify(config.initLoraWeights)
      throw new LoraError(
        'MIRASTRAL_LORA_INIT',
        `internal: initializeAdapter: initLoraWeights ${init}, useDora ${config.useDora} needs ${name}, got no readParameter`,
        { exitCode: 1 },
      )
    })
  )
}

async function layerValues(
  layer: LoraLayer,
  config: LoraConfig,
  random: Random,
  readWeight: () => Promise<DenseWeight>,
): Promise<LayerValues> {
  const { rank, inFeatures, outFeatures } = layer
  const init = config.initLoraWeights
  const fill = (size: number, next: () => number): Float32Array => Float32Array.from({ length: size }, next)
  const uniform = (bound: number) => (): number => bound * (2 * random.uniform() - 1)
  const zeroB = new Float32Array(outFeatures * rank)
  if (init === true) return { a: fill(rank * inFeatures, uniform(1 / Math.sqrt(inFeatures))), b: zeroB }
  if (init === false) {
    const a = fill(rank * inFeatures, uniform(1 / Math.sqrt(inFeatures)))
    return { a, b: fill(outFeatures * rank, uniform(1 / Math.sqrt(rank))) }
  }
  if (init === 'gaussian') return { a: fill(rank * inFeatures, () => random.normal() / rank), b: zeroB }
  if (init === 'orthogonal') return orthogonalValues(layer, random)
  if (init === 'olora') {
    const { q, r } = topQr(await readWeight(), rank)
    return { a: Float32Array.from(r.data), b: transposed(q) }
  }
  return pissaValues(layer, init, random, await readWeight())
}

/** Subspace iterations of plain `pissa` on weights that are too large for an exact decomposition. */
const PISSA_ITERATIONS = 12

/** A = sqrt(S) V^T and B = U sqrt(S), S divided by the scale, so that scaling * B A is the best rank-r part of W. */
function pissaValues(layer: LoraLayer, init: string, random: Random, weight: DenseWeight): LayerValues {
  const asked = /^pissa_niter_(\d+)$/.exec(init)
  const { u, s, v } = topSvd(weight, layer.rank, random, asked === null ? PISSA_ITERATIONS : Number(asked[1]))
  const root = s.map((value) => Math.sqrt(value / layer.scaling))
  const scaled = (x: Rows): Rows => ({ ...x, data: x.data.map((value, i) => value * root[Math.floor(i / x.length)]) })
  return { a: Float32Array.from(scaled(v).data), b: transposed(scaled(u)) }
}

function transposed(x: Rows): Float32Array {
  const result = new Float32Array(x.data.length)
  for (let k = 0; k < x.count; k++) {
    for (let i = 0; i < x.length; i++) result[i * x.count + k] = x.data[k * x.length + i]
  }
  return result
}

/** https://datta0.github.io/posts/rethink-lora-init/ as in PEFT: B A is zero because odd and even rows are orthogonal. */
function orthogonalValues({ rank, inFeatures, outFeatures }: LoraLayer, random: Random): LayerValues {
  const q = randomOrthogonal(rank, random)
  const half = rank / 2
  /** `[size, rank]`: normal numbers `[size, half]` times every second row of Q, over 10. */
  const mixed = (size: number, first: number): Rows => {
    const data = new Float64Array(size * rank)
    for (let i = 0; i < size; i++) {
      for (let h = 0; h < half; h++) {
        const factor = random.normal() / 10
        for (let k = 0; k < rank; k++) data[i * rank + k] += factor * q.data[(2 * h + first) * rank + k]
      }
    }
    return { count: size, length: rank, data }
  }
  return { a: transposed(mixed(inFeatures, 0)), b: Float32Array.from(mixed(outFeatures, 1).data) }
}

async function initialMagnitude(
  layer: LoraLayer,
  { a, b }: LayerValues,
  readWeight: () => Promise<DenseWeight>,
): Promise<Float32Array> {
  const { data } = await readWeight()
  const delta = lowRankProduct(layer, a, b)
  return rowNorms(
    data.map((value, i) => value + delta[i]),
    layer.outFeatures,
  )
}

function initialBias({ outFeatures, rank }: LoraLayer, config: LoraConfig, random: Random): Float32Array {
  if (config.initLoraWeights !== false) return new Float32Array(outFeatures)
  return Float32Array.from({ length: outFeatures }, () => (2 * random.uniform() - 1) / Math.sqrt(rank))
}

/**
 * The adapter as plain LoRA for the unchanged base model, which is what is saved: where the initialisation took B0 A0
 * off the base, rank doubles and A becomes [A; A0], B becomes [B, -B0] (peft/utils, `path_initial_model_for_weight_conversion`).
 */
export function plainLora({ plan, tensors }: Adapter, subtracted: AdapterTensors): Adapter {
  if (subtracted.size === 0) return { plan, tensors }
  const doubled = doubledRanks(plan)
  const result = new Map<string, AdapterTensor>()
  for (const [key, shape] of adapterTensors(doubled)) {
    const now = tensors.get(key)
    const before = subtracted.get(key)
    if (now === undefined) throw missingTensor(key)
    result.set(key, before === undefined ? now : { shape, data: joined(now, before, key.endsWith('lora_A.weight')) })
  }
  return { plan: doubled, tensors: result }
}

/** The rank-r adapter and what it subtracts, back from what {@link plainLora} made of them. */
export function splitPlainLora(
  plan: LoraPlan,
  plain: AdapterTensors,
): { tensors: AdapterTensors; subtracted: AdapterTensors } {
  const tensors = new Map<string, AdapterTensor>()
  const subtracted = new Map<string, AdapterTensor>()
  for (const [key, shape] of adapterTensors(plan)) {
    const both = plain.get(key)
    if (both === undefined) throw missingTensor(key)
    if (!key.endsWith('lora_A.weight') && !key.endsWith('lora_B.weight')) {
      tensors.set(key, both)
      continue
    }
    const [now, before] = parted(both, key.endsWith('lora_A.weight'))
    tensors.set(key, { shape, data: now })
    subtracted.set(key, { shape, data: before })
  }
  return { tensors, subtracted }
}

function missingTensor(key: string): LoraError {
  return new LoraError('MIRASTRAL_LORA_WEIGHTS', `internal: the adapter has no tensor ${key}`, { exitCode: 1 })
}

/** [A; A0] below each other, or [B, -B0] side by side. */
function joined(now: AdapterTensor, before: AdapterTensor, isA: boolean): Float32Array {
  const size = now.data.length
  const result = new Float32Array(2 * size)
  const width = isA ? size : now.shape[1]
  for (let i = 0; i < size; i++) {
    const at = 2 * width * Math.floor(i / width) + (i % width)
    result[at] = now.data[i]
    result[at + width] = isA ? before.data[i] : -before.data[i]
  }
  return result
}

function parted(both: AdapterTensor, isA: boolean): [Float32Array, Float32Array] {
  const size = both.data.length / 2
  const now = new Float32Array(size)
  const before = new Float32Array(size)
  const width = isA ? size : both.shape[1] / 2
  for (let i = 0; i < size; i++) {
    const at = 2 * width * Math.floor(i / width) + (i % width)
    now[i] = both.data[at]
    before[i] = isA ? both.data[at + width] : -both.data[at + width]
  }
  return [now, before]
}
