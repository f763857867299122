/** Callers that are remembered; beyond it those with a full allowance are forgotten first. */
const maxCallers = 10_000

interface Bucket {
  tokens: number
  at: number
}

/** A token bucket for each caller: `perMinute` requests at once, refilled evenly over a minute. */
export class RateLimit {
  readonly #perMinute: number
  readonly #now: () => number
  readonly #buckets = new Map<string, Bucket>()

  /** `now` gives milliseconds. */
  constructor(perMinute: number, now: () => number = () => performance.now()) {
    this.#perMinute = perMinute
    this.#now = now
  }

  /** 0 when the caller may go on, otherwise the whole seconds after which it may. */
  take(caller: string): number {
    const now = this.#now()
    const bucket = this.#buckets.get(caller) ?? { tokens: this.#perMinute, at: now }
    bucket.tokens = Math.min(this.#perMinute, bucket.tokens + ((now - bucket.at) / 60_000) * this.#perMinute)
    bucket.at = now
    this.#remember(caller, bucket)
    if (bucket.tokens < 1) return Math.max(1, Math.ceil(((1 - bucket.tokens) / this.#perMinute) * 60))
    bucket.tokens -= 1
    return 0
  }

  #remember(caller: string, bucket: Bucket): void {
    this.#buckets.delete(caller)
    this.#buckets.set(caller, bucket)
    if (this.#buckets.size <= maxCallers) return
    const minuteAgo = this.#now() - 60_000
    for (const [name, { at }] of this.#buckets) {
      if (at >= minuteAgo && this.#buckets.size <= maxCallers) break
      this.#buckets.delete(name)
    }
  }
}
