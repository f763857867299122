import { changesBase, loraScaling } from './config.js'
import type { LoraConfig } from './config.js'
import { LoraError, listProblems } from './errors.js'
import { sortedKeys } from './python-json.js'
import { fullMatch, pythonRegex, suffixMatch } from './python-regex.js'

/** A module of the base model, by its Hugging Face name without `.weight`. */
export interface ModuleInfo {
  readonly name: string
  readonly kind: 'linear' | 'embedding' | 'norm'
  /** Of its weight: `[out, in]` for linear, `[vocabulary, hidden]` for embedding, `[hidden]` for norm. */
  readonly shape: readonly number[]
  readonly hasBias?: boolean
  /** Whether it is the output embedding (`lm_head`), which `all-linear` leaves out. */
  readonly isOutput?: boolean
  /** Whether it shares its weight with the other embedding. */
  readonly tied?: boolean
}

/** One adapted linear layer: `y = W x + scaling * B (A x)`, A `[rank, inFeatures]`, B `[outFeatures, rank]`. */
export interface LoraLayer {
  readonly module: string
  readonly inFeatures: number
  readonly outFeatures: number
  readonly rank: number
  readonly alpha: number
  readonly scaling: number
  /** Whether the base layer has a bias, which `loraBias` needs for merging. */
  readonly hasBias: boolean
}

/** What a configuration means for one model. */
export interface LoraPlan {
  /** The configuration with `targetModules` resolved to a list or the pattern that was given. */
  readonly config: LoraConfig
  readonly layers: readonly LoraLayer[]
  /** Modules trained in full. */
  readonly savedModules: readonly ModuleInfo[]
  readonly warnings: readonly string[]
}

/** The layers that PEFT adapts in `llama`, `mistral`, `qwen2`, `qwen3` when none are named. */
const defaultTargets = ['q_proj', 'v_proj']

type Match = (name: string) => boolean

const bySuffix =
  (targets: readonly string[]): Match =>
  (name) =>
    targets.some((target) => name === target || name.endsWith(`.${target}`))

/** PEFT's rule for `target_modules` and `exclude_modules`: suffixes of a list, or a pattern for the whole name. */
function nameMatch(targets: readonly string[] | string, who: string): Match {
  return typeof targets === 'string' ? fullMatch(targets, who) : bySuffix(targets)
}

/** The index of a module's layer: the first number between dots behind a name (`model.layers.7.mlp` gives 7). */
function layerIndexMatch(config: LoraConfig): Match {
  if (config.layersToTransform === null) return () => true
  const wanted = [config.layersToTransform].flat()
  if (wanted.length === 0) return () => true
  const patterns =
    config.layersPattern === null
      ? [/^.*?\.[^.]*\.(\d+)\./]
      : [config.layersPattern].flat().map((p) => {
          return pythonRegex(p, 'layersPattern', (source) => `^(?:|.*?\\.)(?:${source})\\.(\\d+)\\.`)
        })
  return (name) => {
    const found = patterns.map((pattern) => pattern.exec(name)).find((match) => match !== null)
    return found !== undefined && wanted.includes(Number(found.at(-1)))
  }
}

/** Whether a module is, or lies inside, one of `modulesToSave` (which PEFT matches by the end of the name). */
function isSaved(name: string, saved: readonly string[]): boolean {
  const parts = name.split('.')
  return parts.some((_, i) =>
    saved.some((s) =>
      parts
        .slice(0, i + 1)
        .join('.')
        .endsWith(s),
    ),
  )
}

/** `all-linear`: every linear layer but the output embedding. */
function isAllLinear(targets: LoraConfig['targetModules']): boolean {
  return typeof targets === 'string' && targets.toLowerCase() === 'all-linear'
}

/**
 * The shortest list that selects exactly `chosen` among `modules`: their last name parts where those fit nothing else,
 * the full names otherwise. Keeps `adapter_config.json` readable for tools that know only suffixes.
 */
function suffixList(chosen: readonly ModuleInfo[], modules: readonly ModuleInfo[]): string[] {
  const names = new Set(chosen.map((m) => m.name))
  const suffixes = [...new Set(chosen.map((m) => m.name.slice(m.name.lastIndexOf('.') + 1)))].sort()
  const exact = modules.every((m) => names.has(m.name) === bySuffix(suffixes)(m.name))
  return exact ? suffixes : [...names].sort()
}

/** The modules that may be adapted: neither excluded nor trained in full. */
function candidateModules(config: LoraConfig, modules: readonly ModuleInfo[]): ModuleInfo[] {
  const excluded = config.excludeModules === null ? () => false : nameMatch(config.excludeModules, 'excludeModules')
  return modules.filter((m) => !excluded(m.name) && !isSaved(m.name, config.modulesToSave ?? []))
}

/** The modules that a configuration selects among the candidates, in their order. */
function selectModules(config: LoraConfig, candidates: readonly ModuleInfo[]): ModuleInfo[] {
  const targets = config.targetModules ?? defaultTargets
  if (isAllLinear(targets)) return candidates.filter((m) => m.kind === 'linear' && m.isOutput !== true)
  const matches = nameMatch(targets, 'targetModules')
  const inLayer = typeof targets === 'string' ? () => true : layerIndexMatch(config)
  // A module named in full is taken whatever layersToTransform says, as in PEFT.
  const exact = new Set(typeof targets === 'string' ? [] : targets)
  return candidates.filter((m) => exact.has(m.name) || (matches(m.name) && inLayer(m.name)))
}

/** Value of the first pattern that matches a module, the default where none does; see suffixMatch. */
function patternLookup(
  who: string,
  patterns: Readonly<Record<string, number>>,
  problems: string[],
): (name: string, otherwise: number) => number {
  const rules = Object.keys(patterns).map((key) => ({ key, value: patterns[key], test: suffixMatch(key, who) }))
  const sorted = sortedKeys(patterns)
  return (name, otherwise) => {
    const hits = rules.filter((rule) => rule.test(name))
    const first = hits[0]
    if (first === undefined) return otherwise
    const afterSaving = hits.find((rule) => rule.key === sorted.find((key) => hits.some((hit) => hit.key === key)))
    if (afterSaving !== undefined && afterSaving.value !== first.value) {
      problems.push(
        `${who}: ${JSON.stringify(first.key)} and ${JSON.stringify(afterSaving.key)} both match ${name}, and the saved ` +
          'file sorts them the other way round; make one of them narrower',
      )
    }
    return first.value
  }
}

/** Target names of a list that select nothing in this model. */
function unmatchedTargets(config: LoraConfig, modules: readonly ModuleInfo[]): string[] {
  if (config.targetModules === null || typeof config.targetModules === 'string') return []
  return config.targetModules.filter((target) => !modules.some((m) => bySuffix([target])(m.name)))
}

/**
 * Decides which modules of a model an adapter acts on, and with which rank and scale, by PEFT's rules
 * (peft/tuners/tuners_utils.py, check_target_module_exists).
 *
 * @param modules every linear, embedding and norm module of the model, in any order
 * @throws LoraError MIRASTRAL_LORA_TARGET when nothing is selected or something that cannot be adapted is
 */
export function planLora(config: LoraConfig, modules: readonly ModuleInfo[]): LoraPlan {
  const problems: string[] = []
  const candidates = candidateModules(config, modules)
  const selected = selectModules(config, candidates)
  const rankOf = patternLookup('rankPattern', config.rankPattern, problems)
  const alphaOf = patternLookup('alphaPattern', config.alphaPattern, problems)
  const saved = config.modulesToSave ?? []
  for (const name of saved) {
    if (!modules.some((m) => isSaved(m.name, [name]))) problems.push(`modulesToSave: no module is named ${name}`)
  }
  for (const m of selected.filter((s) => s.kind !== 'linear')) {
    problems.push(`targetModules: ${m.name} is not a linear layer; to train it in full name it in modulesToSave`)
  }
  if (selected.length === 0) problems.push(`targetModules: ${describeTargets(config)} selects no module of this model`)
  const layers = selected.map((m) => planLayer(m, config, rankOf, alphaOf))
  for (const { module, rank, inFeatures, outFeatures } of layers) {
    if (rank > Math.min(inFeatures, outFeatures) && changesBase(config.initLoraWeights)) {
      problems.push(`r: ${rank} is more than the ${Math.min(inFeatures, outFeatures)} that ${module} has`)
    }
  }
  if (problems.length > 0) throw new LoraError('MIRASTRAL_LORA_TARGET', listProblems('LoRA targets', problems))
  const unmatched = unmatchedTargets(config, modules)
  return {
    config: { ...config, targetModules: resolvedTargets(config, selected, candidates) },
    layers,
    savedModules: modules.filter((m) => isSaved(m.name, saved)),
    warnings: unmatched.length === 0 ? [] : [`targetModules: no module of this model is named ${unmatched.join(', ')}`],
  }
}

function describeTargets(config: LoraConfig): string {
  const targets = config.targetModules ?? defaultTargets
  return typeof targets === 'string' ? JSON.stringify(targets) : `[${targets.join(', ')}]`
}

function resolvedTargets(
  config: LoraConfig,
  selected: readonly ModuleInfo[],
  candidates: readonly ModuleInfo[],
): LoraConfig['targetModules'] {
  if (isAllLinear(config.targetModules)) return suffixList(selected, candidates)
  return config.targetModules ?? defaultTargets
}

function planLayer(
  { name, shape, hasBias = false }: ModuleInfo,
  config: LoraConfig,
  rankOf: (name: string, otherwise: number) => number,
  alphaOf: (name: string, otherwise: number) => number,
): LoraLayer {
  const rank = rankOf(name, config.r)
  const alpha = alphaOf(name, config.loraAlpha)
  return {
    module: name,
    inFeatures: shape[1],
    outFeatures: shape[0],
    rank,
    alpha,
    scaling: loraScaling(alpha, rank, config.useRslora),
    hasBias,
  }
}
