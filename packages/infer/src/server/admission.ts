import { ApiError } from './api-error.js'

export interface AdmissionLimits {
  /** How many answers are generated at once. */
  readonly concurrency: number
  /** How many requests may wait; more are refused at once, so that clients slow down. */
  readonly queue: number
  /** How long one may wait, in milliseconds. */
  readonly queueMs: number
}

interface Waiting {
  readonly admit: () => void
  readonly refuse: (reason: unknown) => void
}

/** Lets a limited number of requests in, the others wait in the order in which they came. */
export class Admission {
  readonly #limits: AdmissionLimits
  readonly #queue = new Set<Waiting>()
  #active = 0
  #closed = false

  constructor(limits: AdmissionLimits) {
    this.#limits = limits
  }

  get active(): number {
    return this.#active
  }

  get queued(): number {
    return this.#queue.size
  }

  /**
   * Resolves with a function that frees the place, which may be called more than once. Rejects with an `ApiError` when the
   * queue is full, the wait too long or the server stopping, and with the signal's reason when it aborts.
   */
  async enter(signal: AbortSignal): Promise<() => void> {
    signal.throwIfAborted()
    if (this.#closed) throw stopping()
    if (this.#active < this.#limits.concurrency) return this.#place()
    if (this.#queue.size >= this.#limits.queue) {
      throw new ApiError(429, 'rate_limit_error', 'Too many requests are waiting already. Try again shortly.', {
        code: 'queue_full',
        retryAfter: 5,
      })
    }
    await this.#wait(signal)
    return this.#place()
  }

  /** Refuses those who wait and all who come. */
  close(): void {
    this.#closed = true
    for (const waiting of this.#queue) waiting.refuse(stopping())
  }

  #wait(signal: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      const leave = (): void => {
        clearTimeout(timer)
        signal.removeEventListener('abort', aborted)
        this.#queue.delete(waiting)
      }
      const waiting: Waiting = {
        admit: () => {
          leave()
          resolve()
        },
        refuse: (reason) => {
          leave()
          reject(reason instanceof Error ? reason : new Error('aborted'))
        },
      }
      const aborted = (): void => waiting.refuse(signal.reason)
      const timer = setTimeout(() => {
        const message = 'The request waited too long for its turn. Try again later.'
        waiting.refuse(new ApiError(503, 'server_error', message, { code: 'queue_timeout', retryAfter: 30 }))
      }, this.#limits.queueMs)
      signal.addEventListener('abort', aborted, { once: true })
      this.#queue.add(waiting)
    })
  }

  #place(): () => void {
    this.#active++
    let taken = true
    return () => {
      if (!taken) return
      taken = false
      this.#active--
      const [next] = this.#queue
      next?.admit()
    }
  }
}

const stopping = (): ApiError =>
  new ApiError(503, 'server_error', 'The server is stopping.', { code: 'stopping', retryAfter: 30 })
