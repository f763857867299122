import { loraScaling } from './config.js'
import type { LoraConfig } from './config.js'
import type { LoraLayer, LoraPlan, ModuleInfo } from './targets.js'

/** The parts of one adapted layer, by the name that PEFT gives their tensors. */
export type LoraPart = 'lora_A.weight' | 'lora_B.weight' | 'lora_B.bias' | 'lora_magnitude_vector'

const PREFIX = 'base_model.model.'

/** The key of a tensor in `adapter_model.safetensors`: `base_model.model.<module>.<part>`. */
export function adapterKey(module: string, part: LoraPart | 'weight' | 'bias'): string {
  return `${PREFIX}${module}.${part}`
}

/** The base model's parameter that a key of a module trained in full replaces: the key without PEFT's prefix. */
export function parameterOfKey(key: string): string {
  return key.slice(PREFIX.length)
}

/** The tensors of one adapted layer and their shapes: A `[r, in]`, B `[out, r]`, bias and magnitude `[out]`. */
export function layerTensors(layer: LoraLayer, config: LoraConfig): Map<LoraPart, readonly number[]> {
  const parts = new Map<LoraPart, readonly number[]>([
    ['lora_A.weight', [layer.rank, layer.inFeatures]],
    ['lora_B.weight', [layer.outFeatures, layer.rank]],
  ])
  if (config.loraBias) parts.set('lora_B.bias', [layer.outFeatures])
  if (config.useDora) parts.set('lora_magnitude_vector', [layer.outFeatures])
  return parts
}

/** The parameters of a module trained in full: its base name and shape. */
function moduleTensors({ name, shape, kind, hasBias }: ModuleInfo): [string, readonly number[]][] {
  const result: [string, readonly number[]][] = [[adapterKey(name, 'weight'), shape]]
  if (hasBias === true && kind === 'linear') result.push([adapterKey(name, 'bias'), shape.slice(0, 1)])
  return result
}

/** Every tensor that an adapter has, by key, in the order of the model's modules. */
export function adapterTensors(plan: LoraPlan): Map<string, readonly number[]> {
  const result = new Map<string, readonly number[]>()
  for (const layer of plan.layers) {
    for (const [part, shape] of layerTensors(layer, plan.config)) result.set(adapterKey(layer.module, part), shape)
  }
  for (const module of plan.savedModules) {
    for (const [key, shape] of moduleTensors(module)) result.set(key, shape)
  }
  return result
}

/** A plan whose layers all have twice the rank and the same scale; see {@link plainLora} in init.ts. */
export function doubledRanks(plan: LoraPlan): LoraPlan {
  const { config } = plan
  const alphaFactor = config.useRslora ? Math.SQRT2 : 2
  const times = (pattern: Readonly<Record<string, number>>, factor: number): Record<string, number> =>
    Object.fromEntries(Object.entries(pattern).map(([key, value]) => [key, value * factor]))
  const doubled: LoraConfig = {
    ...config,
    r: config.r * 2,
    loraAlpha: config.loraAlpha * alphaFactor,
    rankPattern: times(config.rankPattern, 2),
    alphaPattern: times(config.alphaPattern, alphaFactor),
    initLoraWeights: true,
  }
  const layers = plan.layers.map((layer) => {
    const rank = layer.rank * 2
    const alpha = layer.alpha * alphaFactor
    return { ...layer, rank, alpha, scaling: loraScaling(alpha, rank, config.useRslora) }
  })
  return { ...plan, config: doubled, layers }
}
