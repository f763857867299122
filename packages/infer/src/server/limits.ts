import { z } from 'zod'

/** What the server takes and how long it works on one request. */
export const limitsSchema = z.object({
  /** Bytes of a request's body. */
  bodyBytes: z.int().min(1).max(2 ** 30).default(2 ** 20), // prettier-ignore
  /** Requests of one caller in a minute. */
  requestsPerMinute: z.int().min(1).default(600),
  /** Answers that are generated at once. */
  concurrency: z.int().min(1).max(10_000).default(8),
  /** Requests that may wait for their turn. */
  queue: z.int().min(0).max(100_000).default(64),
  /** Milliseconds that a request may wait. */
  queueMs: z.int().min(1).default(60_000),
  /** Milliseconds that an answer may take once it has begun. */
  requestMs: z.int().min(1).default(300_000),
  /** Milliseconds that answers may still take when the server is asked to stop. */
  graceMs: z.int().min(0).default(30_000),
})

export type ServerLimits = Readonly<z.output<typeof limitsSchema>>
