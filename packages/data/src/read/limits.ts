import { z } from 'zod'

/** Bounds on what one record may ask of memory and time. Each can be raised by the caller. */
export const limitsSchema = z.strictObject({
  /** Bytes of one record in its file. A conversation of a million words has about 6 MB. */
  maxRecordBytes: z
    .number()
    .int()
    .positive()
    .default(16 << 20),
  /** Objects and lists inside each other. Chats have about six, JSON schemas of tools rarely twenty. */
  maxDepth: z.number().int().positive().default(128),
  maxTurns: z.number().int().positive().default(2000),
  /** UTF-16 units of one turn. */
  maxTextLength: z
    .number()
    .int()
    .positive()
    .default(1 << 20),
  /** How many times its size a gzip file may grow to. Conversations grow to about 4 times, repetitive ones to 50. */
  maxExpansion: z.number().positive().default(200),
})

export type Limits = z.infer<typeof limitsSchema>

export const DEFAULT_LIMITS: Limits = limitsSchema.parse({})
