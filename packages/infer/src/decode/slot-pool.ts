import type { PlacedAdapter } from './adapter-bank.js'

/** A place for one sequence's keys and values on the device, and what it holds. */
export interface Slot {
  readonly index: number
  /** The tokens whose keys and values are there, and the adapter that they were computed with. */
  tokens: number[]
  adapter: PlacedAdapter | null
}

interface Waiting {
  readonly take: () => void
  readonly refuse: (reason: Error) => void
}

/** Hands out the slots. A slot that is free keeps what it holds, for a sequence that begins with the same tokens. */
export class SlotPool {
  /** The one that was used longest ago comes first. */
  readonly #free: Slot[]
  readonly #waiting = new Set<Waiting>()
  /** Free slots that belong to those who have waited, and have not come for them yet. */
  #promised = 0

  constructor(count: number) {
    this.#free = Array.from({ length: count }, (_, index) => ({ index, tokens: [], adapter: null }))
  }

  get free(): number {
    return this.#free.length
  }

  get waiting(): number {
    return this.#waiting.size
  }

  /**
   * The free slot that shares most tokens with `ids` from the beginning; waits until one is free, in the order of the
   * calls. Throws the signal's reason when it aborts.
   */
  async take(ids: ArrayLike<number>, adapter: PlacedAdapter | null, signal?: AbortSignal): Promise<Slot> {
    signal?.throwIfAborted()
    if (this.#free.length - this.#promised < 1) {
      await this.#turn(signal)
      this.#promised--
    }
    const shared = this.#free.map((slot) => (slot.adapter === adapter ? sharedTokens(slot.tokens, ids) : 0))
    const [slot] = this.#free.splice(shared.indexOf(Math.max(...shared)), 1)
    if (slot.adapter !== adapter) slot.tokens = []
    slot.adapter = adapter
    return slot
  }

  give(slot: Slot): void {
    this.#free.push(slot)
    const [next] = this.#waiting
    next?.take()
  }

  /** Forgets what was computed with an adapter. */
  forget(adapter: PlacedAdapter): void {
    for (const slot of this.#free) if (slot.adapter === adapter) [slot.tokens, slot.adapter] = [[], null]
  }

  #turn(signal: AbortSignal | undefined): Promise<void> {
    return new Promise((resolve, reject) => {
      const leave = (): void => {
        this.#waiting.delete(waiting)
        signal?.removeEventListener('abort', aborted)
      }
      const waiting: Waiting = {
        take: () => {
          leave()
          this.#promised++
          resolve()
        },
        refuse: (reason) => {
          leave()
          reject(reason)
        },
      }
      const aborted = (): void =>
        waiting.refuse(signal?.reason instanceof Error ? signal.reason : new Error(String(signal?.reason)))
      signal?.addEventListener('abort', aborted, { once: true })
      this.#waiting.add(waiting)
    })
  }
}

/** How many tokens both have in common from the beginning. */
export function sharedTokens(a: ArrayLike<number>, b: ArrayLike<number>): number {
  const end = Math.min(a.length, b.length)
  let count = 0
  while (count < end && a[count] === b[count]) count++
  return count
}
