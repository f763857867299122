import { z } from 'zod'
import { LoraError, listProblems } from './errors.js'

/** The ways of choosing A and B before the first step, in PEFT's words; see init.ts for each. */
export type LoraInit = boolean | 'gaussian' | 'pissa' | `pissa_niter_${number}` | 'olora' | 'orthogonal'

/** How an adapter is built: the words of PEFT's `LoraConfig` in camelCase, with PEFT's defaults. */
export interface LoraConfig {
  /** Rank of A and B. */
  readonly r: number
  /** Numerator of the scale; the scale is `loraAlpha / r`, or `loraAlpha / sqrt(r)` with `useRslora`. */
  readonly loraAlpha: number
  /** Probability with which an element of the adapter's input is dropped while training. The base path is not touched. */
  readonly loraDropout: number
  /** Module-name suffixes, or a regular expression (Python's `re.fullmatch`), or `all-linear`; null: the architecture's default. */
  readonly targetModules: readonly string[] | string | null
  /** Modules to leave out, in the same two forms. */
  readonly excludeModules: readonly string[] | string | null
  /** Biases of the base model are never trained here. */
  readonly bias: 'none'
  readonly useRslora: boolean
  readonly useDora: boolean
  /** Whether B has a bias of its own. */
  readonly loraBias: boolean
  /** Modules trained and saved in full beside the adapter, such as `lm_head`. */
  readonly modulesToSave: readonly string[] | null
  /** Rank of modules that differ from `r`: module-name suffix or regular expression to rank; the first match counts. */
  readonly rankPattern: Readonly<Record<string, number>>
  /** The same for `loraAlpha`. */
  readonly alphaPattern: Readonly<Record<string, number>>
  /** Only layers of these indices; needs a list in `targetModules`. */
  readonly layersToTransform: readonly number[] | number | null
  /** Name of the list of layers, such as `layers`, where it cannot be told from the module names. */
  readonly layersPattern: readonly string[] | string | null
  readonly initLoraWeights: LoraInit
  readonly baseModelNameOrPath: string | null
  readonly revision: string | null
  readonly taskType: string | null
}

/** What a caller gives: every field optional. */
export type LoraOptions = Partial<LoraConfig>

const nameList = z.array(z.string().min(1, 'has an empty name')).min(1, 'is an empty list; leave it out instead')
const names = z.union([z.string().min(1, 'is an empty string'), nameList])
const positiveInteger = z.int('must be a whole number').positive('must be at least 1')
const patternOf = (value: z.ZodType<number>): z.ZodType<Record<string, number>> => z.record(z.string().min(1), value)
const alpha = z.number('must be a number').positive('must be greater than 0')
const layerIndex = z.int('must be a whole number').nonnegative('must not be negative')

/** The initialisations of PEFT that need data or change the base model in a way that is not supported. */
const refusedInits = new Set(['eva', 'corda', 'loftq', 'lora_ga', 'mica'])

function isInit(value: unknown): value is LoraInit {
  if (typeof value === 'boolean') return true
  return typeof value === 'string' && /^(gaussian|pissa|pissa_niter_\d+|olora|orthogonal)$/.test(value)
}

const initSchema = z.custom<LoraInit>(isInit, {
  error: ({ input }) =>
    typeof input === 'string' && refusedInits.has(input)
      ? `"${input}" is an initialisation that is not supported; use true, "gaussian", "pissa", "olora" or "orthogonal"`
      : 'must be true, false, "gaussian", "pissa", "pissa_niter_<n>", "olora" or "orthogonal"',
})

const schema = z.strictObject({
  r: positiveInteger.default(8),
  loraAlpha: alpha.default(8),
  loraDropout: z.number('must be a number').min(0, 'must not be negative').lt(1, 'must be below 1').default(0),
  targetModules: names.nullable().default(null),
  excludeModules: names.nullable().default(null),
  bias: z.literal('none', 'must be "none": training the biases of the base model is not supported').default('none'),
  useRslora: z.boolean().default(false),
  useDora: z.boolean().default(false),
  loraBias: z.boolean().default(false),
  modulesToSave: nameList.nullable().default(null),
  rankPattern: patternOf(positiveInteger).default({}),
  alphaPattern: patternOf(alpha).default({}),
  layersToTransform: z
    .union([layerIndex, z.array(layerIndex)])
    .nullable()
    .default(null),
  layersPattern: names.nullable().default(null),
  initLoraWeights: initSchema.default(true),
  baseModelNameOrPath: z.string().nullable().default(null),
  revision: z.string().nullable().default(null),
  taskType: z.string().nullable().default('CAUSAL_LM'),
})

/** The rules that join several fields, as PEFT's `LoraConfig.__post_init__` has them. */
function crossChecks(c: LoraConfig): string[] {
  const problems: string[] = []
  const { targetModules, initLoraWeights: init } = c
  if (typeof targetModules === 'string' && c.layersToTransform !== null) {
    problems.push('layersToTransform: works only with a list in targetModules, not with a pattern')
  }
  if (typeof targetModules === 'string' && c.layersPattern !== null) {
    problems.push('layersPattern: works only with a list in targetModules, not with a pattern')
  }
  if (c.layersPattern !== null && c.layersToTransform === null) {
    problems.push('layersPattern: needs layersToTransform beside it')
  }
  if (c.loraBias && c.useDora) problems.push('loraBias: cannot be combined with useDora')
  if (c.loraBias && typeof init === 'string') {
    problems.push(`loraBias: works with initLoraWeights true or false, got "${init}"`)
  }
  if (init === 'orthogonal') {
    const odd = [c.r, ...Object.values(c.rankPattern)].filter((rank) => rank % 2 !== 0)
    if (odd.length > 0) problems.push(`initLoraWeights: "orthogonal" needs even ranks, got ${odd.join(', ')}`)
  }
  if (changesBase(init) && c.useDora) {
    problems.push(`initLoraWeights: "${String(init)}" cannot be combined with useDora`)
  }
  return problems
}

/** Whether an initialisation starts from B A that is not zero and is taken off the base weight again. */
export function changesBase(init: LoraInit): boolean {
  return typeof init === 'string' && (init === 'olora' || init.startsWith('pissa'))
}

/** The closest known word within two edits, for a hint behind an unknown option. */
function closest(word: string, known: readonly string[]): string | undefined {
  const simple = (s: string): string => s.toLowerCase().replace(/[^a-z]/g, '')
  return known.find((k) => simple(k) === simple(word) || simple(k) === `lora${simple(word)}`)
}

function describeIssue(issue: z.core.$ZodIssue): string[] {
  const known = Object.keys(schema.shape)
  if (issue.code === 'unrecognized_keys') {
    return issue.keys.map((key) => {
      const hint = closest(key, known)
      return `${key}: unknown option${hint === undefined ? '' : `, did you mean ${hint}`}`
    })
  }
  return [`${issue.path.join('.') || 'the configuration'}: ${issue.message}`]
}

/** Checks options and says all that is wrong with them; `config` is there when nothing is. For config-json.ts. */
export function checkLoraConfig(options: unknown): { config?: LoraConfig; problems: string[] } {
  const parsed = schema.safeParse(options)
  if (!parsed.success) return { problems: parsed.error.issues.flatMap(describeIssue) }
  const problems = crossChecks(parsed.data)
  return problems.length > 0 ? { problems } : { config: parsed.data, problems }
}

/**
 * Checks the options of an adapter and fills in PEFT's defaults.
 *
 * @throws LoraError MIRASTRAL_LORA_CONFIG that names every problem at once
 */
export function parseLoraConfig(options: unknown): LoraConfig {
  const { config, problems } = checkLoraConfig(options)
  if (config === undefined) throw new LoraError('MIRASTRAL_LORA_CONFIG', listProblems('LoRA options', problems))
  return config
}

/** The scale in front of `B A x`: `alpha / r`, or `alpha / sqrt(r)` for rank-stabilised LoRA (arXiv 2312.03732). */
export function loraScaling(alpha: number, rank: number, useRslora: boolean): number {
  return useRslora ? alpha / Math.sqrt(rank) : alpha / rank
}
