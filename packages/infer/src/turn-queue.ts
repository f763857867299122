/** Lets one task in at a time, in the order in which they came. A task that is aborted while it waits leaves the queue. */
export class TurnQueue {
  private tail: Promise<void> = Promise.resolve()

  /** Resolves when it is this caller's turn; the caller must call the result when it is done. */
  async enter(signal?: AbortSignal): Promise<() => void> {
    let leave: () => void = () => undefined
    const done = new Promise<void>((resolve) => {
      leave = resolve
    })
    const before = this.tail
    this.tail = before.then(() => done)
    try {
      await untilAborted(before, signal)
      return leave
    } catch (error) {
      leave()
      throw error
    }
  }
}

async function untilAborted(work: Promise<void>, signal: AbortSignal | undefined): Promise<void> {
  if (!signal) return work
  signal.throwIfAborted()
  let stop: () => void = () => undefined
  const aborted = new Promise<never>((_, reject) => {
    stop = () => reject(signal.reason instanceof Error ? signal.reason : new Error(String(signal.reason)))
    signal.addEventListener('abort', stop, { once: true })
  })
  try {
    await Promise.race([work, aborted])
  } finally {
    signal.removeEventListener('abort', stop)
  }
}
