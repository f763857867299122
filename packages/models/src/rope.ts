import * as z from 'zod'

/** Rotary position embedding as config.json describes it. `theta` is the base of the geometric series of wavelengths. */
export type RopeParameters =
  | { readonly type: 'default'; readonly theta: number }
  /** Positions divided by `factor`. */
  | { readonly type: 'linear'; readonly theta: number; readonly factor: number }
  /** Llama 3.1: long wavelengths divided by `factor`, short ones kept, a smooth step between. */
  | {
      readonly type: 'llama3'
      readonly theta: number
      readonly factor: number
      readonly lowFreqFactor: number
      readonly highFreqFactor: number
      readonly originalMaxPositionEmbeddings: number
    }
  /** YaRN (arXiv:2309.00071). */
  | {
      readonly type: 'yarn'
      readonly theta: number
      readonly factor: number
      readonly originalMaxPositionEmbeddings: number
      readonly attentionFactor: number
      readonly betaFast: number
      readonly betaSlow: number
      readonly truncate: boolean
    }

export type RopeType = RopeParameters['type']

/** The value if it is an object, else an empty one. */
function record(value: unknown): Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Record<string, unknown>) : {}
}

const defaultTheta = 10000

function mscale(factor: number, weight = 1): number {
  return factor <= 1 ? 1 : 0.1 * weight * Math.log(factor) + 1
}

/** The attention factor that YaRN uses where the configuration gives none (`_compute_yarn_parameters` of Transformers). */
function yarnAttentionFactor(
  given: { attention_factor?: number | null; mscale?: number | null; mscale_all_dim?: number | null },
  factor: number,
): number {
  if (typeof given.attention_factor === 'number') return given.attention_factor
  const { mscale: weight, mscale_all_dim: allDim } = given
  return weight && allDim ? mscale(factor, weight) / mscale(factor, allDim) : mscale(factor)
}

const positive = z.number().positive()

/** How each type's keys are read. `theta` and `maxPositions` come from elsewhere in the configuration. */
const readers = {
  default: (theta: number) => z.object({}).transform((): RopeParameters => ({ type: 'default', theta })),
  linear: (theta: number) =>
    z.object({ factor: positive }).transform(({ factor }): RopeParameters => ({ type: 'linear', theta, factor })),
  llama3: (theta: number, maxPositions: number) =>
    z
      .object({
        factor: positive,
        low_freq_factor: positive,
        high_freq_factor: positive,
        original_max_position_embeddings: positive.default(maxPositions),
      })
      .transform((given): RopeParameters => ({
        type: 'llama3',
        theta,
        factor: given.factor,
        lowFreqFactor: given.low_freq_factor,
        highFreqFactor: given.high_freq_factor,
        originalMaxPositionEmbeddings: given.original_max_position_embeddings,
      })),
  yarn: (theta: number, maxPositions: number) =>
    z
      .object({
        factor: positive.nullish(),
        original_max_position_embeddings: positive.default(maxPositions),
        attention_factor: positive.nullish(),
        mscale: positive.nullish(),
        mscale_all_dim: positive.nullish(),
        beta_fast: positive.nullish(),
        beta_slow: positive.nullish(),
        truncate: z.boolean().default(true),
      })
      .transform((given): RopeParameters => {
        const factor = given.factor ?? maxPositions / given.original_max_position_embeddings
        return {
          type: 'yarn',
          theta,
          factor,
          originalMaxPositionEmbeddings: given.original_max_position_embeddings,
          attentionFactor: yarnAttentionFactor(given, factor),
          betaFast: given.beta_fast ?? 32,
          betaSlow: given.beta_slow ?? 1,
          truncate: given.truncate,
        }
      }),
} satisfies Record<RopeType, unknown>

function isRopeType(name: unknown): name is RopeType {
  return typeof name === 'string' && Object.hasOwn(readers, name)
}

/**
 * Reads the rotary embedding of a config.json: `rope_parameters` (Transformers 5), or `rope_theta` and `rope_scaling`
 * (Transformers 4). What is wrong is added to `problems`, and the default returned.
 */
export function parseRope(json: Record<string, unknown>, maxPositions: number, problems: string[]): RopeParameters {
  const key = json.rope_scaling ? 'rope_scaling' : 'rope_parameters'
  const given = record(json[key])
  const theta = given.rope_theta ?? json.rope_theta ?? defaultTheta
  const fallback: RopeParameters = { type: 'default', theta: defaultTheta }
  if (typeof theta !== 'number' || !(theta > 1) || !Number.isFinite(theta)) {
    problems.push(`rope_theta: must be a number above 1, got ${JSON.stringify(theta)}`)
    return fallback
  }
  const partial = given.partial_rotary_factor ?? json.partial_rotary_factor ?? 1
  if (partial !== 1) problems.push(`${key}.partial_rotary_factor: only 1 is supported, got ${JSON.stringify(partial)}`)
  const type = given.rope_type ?? given.type ?? 'default'
  if (!isRopeType(type)) {
    problems.push(`${key}.rope_type: must be one of ${Object.keys(readers).join(', ')}, got ${JSON.stringify(type)}`)
    return fallback
  }
  const parsed = readers[type](theta, maxPositions).safeParse(given)
  if (parsed.success) return parsed.data
  for (const { path } of parsed.error.issues) {
    const name = String(path[0])
    const rule = name === 'truncate' ? 'true or false' : 'a positive number'
    problems.push(`${key}.${name}: must be ${rule}, got ${JSON.stringify(given[name]) ?? 'nothing'}`)
  }
  return fallback
}

/** The frequencies of the rotary embedding, and the number that multiplies its cosines and sines. */
export interface RopeFrequencies {
  /** Radians per position, float32 [headDim / 2], the fastest first. */
  readonly inverseFrequencies: Float32Array
  readonly attentionFactor: number
}

/** `1 / theta^(2i/d)` in float32 steps, as PyTorch computes it: the exponent and the power are rounded. */
function defaultFrequencies(theta: number, headDim: number): Float32Array {
  return Float32Array.from({ length: headDim / 2 }, (_, i) => 1 / Math.fround(theta ** Math.fround((2 * i) / headDim)))
}

/** Llama 3.1's scaling (`_compute_llama3_parameters` of Transformers). */
function llama3Frequency(frequency: number, rope: Extract<RopeParameters, { type: 'llama3' }>): number {
  const wavelength = (2 * Math.PI) / frequency
  const { factor, lowFreqFactor: low, highFreqFactor: high, originalMaxPositionEmbeddings: context } = rope
  if (wavelength > context / low) return frequency / factor
  if (wavelength < context / high) return frequency
  const smooth = (context / wavelength - low) / (high - low)
  return (1 - smooth) * (frequency / factor) + smooth * frequency
}

/** YaRN's blend of kept and interpolated frequencies (`_compute_yarn_parameters` of Transformers). */
function yarnFrequencies(rope: Extract<RopeParameters, { type: 'yarn' }>, headDim: number): Float32Array {
  const { theta, factor, originalMaxPositionEmbeddings: context } = rope
  const dimensionOf = (rotations: number): number =>
    (headDim * Math.log(context / (rotations * 2 * Math.PI))) / (2 * Math.log(theta))
  const round = rope.truncate ? { down: Math.floor, up: Math.ceil } : { down: (x: number) => x, up: (x: number) => x }
  const low = Math.max(round.down(dimensionOf(rope.betaFast)), 0)
  const high = Math.min(round.up(dimensionOf(rope.betaSlow)), headDim - 1)
  const width = low === high ? 0.001 : high - low
  return defaultFrequencies(theta, headDim).map((frequency, i) => {
    const interpolated = Math.min(Math.max((i - low) / width, 0), 1)
    return (frequency / factor) * interpolated + frequency * (1 - interpolated)
  })
}

/**
 * The frequencies of a rotary embedding for heads of `headDim` (even). Equal to `ROPE_INIT_FUNCTIONS` of Transformers
 * within float32 rounding.
 */
export function ropeFrequencies(rope: RopeParameters, headDim: number): RopeFrequencies {
  switch (rope.type) {
    case 'default':
      return { inverseFrequencies: defaultFrequencies(rope.theta, headDim), attentionFactor: 1 }
    case 'linear': {
      const frequencies = defaultFrequencies(rope.theta, headDim)
      return { inverseFrequencies: frequencies.map((f) => f / rope.factor), attentionFactor: 1 }
    }
    case 'llama3': {
      const frequencies = defaultFrequencies(rope.theta, headDim)
      return { inverseFrequencies: frequencies.map((f) => llama3Frequency(f, rope)), attentionFactor: 1 }
    }
    case 'yarn':
      return { inverseFrequencies: yarnFrequencies(rope, headDim), attentionFactor: rope.attentionFactor }
  }
}
