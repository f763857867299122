import { z } from 'zod'

const count = z.number().int().nonnegative()
const counts = z.record(z.string(), count)

/**
 * One line of the ledger: what became of one file in one run. `processed` and `imported` files are not read again while
 * their content stays the same; a `failed` one is tried again by the next run.
 */
export const entrySchema = z.object({
  version: z.literal(1),
  status: z.enum(['processed', 'failed', 'imported']),
  path: z.string(),
  size: count,
  /** SHA-256 of the file's bytes, in hexadecimal; null for an imported file that no longer exists. */
  sha256: z
    .string()
    .regex(/^[0-9a-f]{64}$/)
    .nullable(),
  /** When the line was written, ISO 8601 in UTC. */
  time: z.string(),
  /** How many records were of which format. */
  formats: counts.default({}),
  rows: z
    .object({ read: count, used: count, dropped: counts, duplicates: z.object({ exact: count, near: count }) })
    .default({ read: 0, used: 0, dropped: {}, duplicates: { exact: 0, near: 0 } }),
  /** The optimizer steps that saw the file, first and last, counted from 1; null where there were none. */
  steps: z.tuple([count, count]).nullable().default(null),
  /** The version of the adapter that came out of the run. */
  adapter: z.string().nullable().default(null),
  /** Why a failed file could not be read. */
  problem: z.string().optional(),
})

export type LedgerEntry = z.infer<typeof entrySchema>
