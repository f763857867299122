/** Waits between tries: `first`, then twice as long each time, at most `longest`, milliseconds. */
export interface BackOff {
  /** Tries in all. */
  readonly tries: number
  readonly first: number
  readonly longest: number
  /** Waits; a test passes its own. Must reject when the signal fires. */
  readonly wait: (milliseconds: number, signal: AbortSignal | undefined) => Promise<void>
}

/** Waits on the clock without keeping the process alive for it. */
export function waitOnClock(milliseconds: number, signal: AbortSignal | undefined): Promise<void> {
  return new Promise((resolve, reject) => {
    const abort = (): void => {
      clearTimeout(timer)
      reject(signal?.reason instanceof Error ? signal.reason : new Error('aborted'))
    }
    const timer = setTimeout(() => {
      signal?.removeEventListener('abort', abort)
      resolve()
    }, milliseconds)
    if (signal?.aborted === true) abort()
    else signal?.addEventListener('abort', abort, { once: true })
  })
}

/**
 * Runs `attempt` until it succeeds, fails for good, or has been tried often enough; then throws what it threw last.
 *
 * @param mayPass whether the same call may succeed later
 */
export async function retry<T>(
  attempt: (number: number) => Promise<T>,
  mayPass: (error: unknown) => boolean,
  { tries, first, longest, wait }: BackOff,
  signal?: AbortSignal,
): Promise<T> {
  for (let number = 1; ; number++) {
    try {
      return await attempt(number)
    } catch (error) {
      if (number >= tries || signal?.aborted === true || !mayPass(error)) throw error
      await wait(Math.min(longest, first * 2 ** (number - 1)), signal)
    }
  }
}
