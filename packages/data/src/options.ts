import { z } from 'zod'
import { DataError } from './errors.js'
import { pairProblems, readingSchema } from './formats/reading.js'
import { limitsSchema } from './read/limits.js'
import { redactionSchema } from './records/redact.js'

export const optionsSchema = readingSchema.extend({
  /** Tokens of a row. */
  maxLength: z.number().int().min(2).default(256),
  truncation: z.enum(['left', 'right', 'split', 'drop']).default('left'),
  trainOn: z.enum(['all', 'last']).default('all'),
  trainOnToolCalls: z.boolean().default(true),
  /** The share of conversations that are kept for evaluation; decided by content, so only about this share. */
  evalFraction: z.number().min(0).max(0.9).default(0.1),
  /** Decides which conversations are evaluated on. Keep it between runs. */
  splitSeed: z.number().int().nonnegative().default(0),
  /** Which duplicates are removed, within the run and (with a ledger) across runs. */
  duplicates: z.enum(['keep', 'exact', 'near']).default('near'),
  /** `true`, or what to replace: personal data becomes [EMAIL], [PHONE], ... Default: nothing is replaced. */
  redact: z
    .union([z.boolean(), redactionSchema])
    .default(false)
    .transform((value) => (value === true ? redactionSchema.parse({}) : value)),
  /** Throw where a file cannot be read, instead of leaving it for the next run. */
  strict: z.boolean().default(false),
  /** Worker threads; 0 works on the calling thread, `auto` starts one where the input is large. Each takes 55 MB and more. */
  threads: z.union([z.literal('auto'), z.number().int().min(0).max(256)]).default('auto'),
  limits: limitsSchema.prefault({}),
})

/** How data is prepared; every field has a default. */
export type DataOptions = z.input<typeof optionsSchema>
export type ResolvedDataOptions = z.output<typeof optionsSchema>

/** @throws DataError MIRASTRAL_DATA_OPTION that names every wrong option at once. */
export function resolveOptions(options: DataOptions): ResolvedDataOptions {
  const result = optionsSchema.safeParse(options)
  if (result.success) return result.data
  const problems = result.error.issues.map((issue) => `${issue.path.join('.') || 'options'}: ${issue.message}`)
  throw new DataError('MIRASTRAL_DATA_OPTION', `data options: ${problems.join('; ')}`)
}

/** The same for preference pairs, which cannot be split, and of which not every format and mapping tells. */
export function resolvePairOptions(options: DataOptions): ResolvedDataOptions {
  const resolved = resolveOptions(options)
  const wrong = pairProblems(resolved)
  if (resolved.truncation === 'split') {
    wrong.push('truncation: a preference pair cannot be split; take left, right or drop')
  }
  if (wrong.length === 0) return resolved
  throw new DataError('MIRASTRAL_DATA_OPTION', `preference options: ${wrong.join('; ')}`)
}
