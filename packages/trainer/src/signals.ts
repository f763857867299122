/** Why a run stops before its end. */
export type StopReason =
  | { readonly kind: 'signal'; readonly signal: NodeJS.Signals }
  | { readonly kind: 'budget'; readonly seconds: number }
  | { readonly kind: 'request'; readonly by: string }

/** One place where everything that can end a run early asks for it, and that every phase looks at. */
export class StopSource {
  private readonly controller = new AbortController()
  private reason: StopReason | null = null

  /** The first reason counts, later ones change nothing. */
  request(reason: StopReason): void {
    if (this.reason !== null) return
    this.reason = reason
    this.controller.abort(new StopRequested(reason))
  }

  get requested(): StopReason | null {
    return this.reason
  }

  /** For whatever takes an AbortSignal: downloads, worker threads. Its `reason` is a `StopRequested`. */
  get signal(): AbortSignal {
    return this.controller.signal
  }

  /** @throws StopRequested, once a stop is requested. */
  throwIfRequested(): void {
    this.controller.signal.throwIfAborted()
  }
}

/** Unwinds a phase that has nothing to save, such as loading a model. `train` turns it into a result; it is no failure. */
export class StopRequested extends Error {
  override readonly name = 'StopRequested'
  readonly code = 'MIRASTRAL_STOP_REQUESTED'
  readonly exitCode = 0
  constructor(readonly reason: StopReason) {
    super(`stopped: ${describeStop(reason)}`)
  }
}

/** Whether something was unwound by `StopSource.signal`: our own error, or the AbortError of what was given the signal. */
export function isStopError(error: unknown): boolean {
  return error instanceof StopRequested || (error instanceof Error && error.name === 'AbortError')
}

export function describeStop(reason: StopReason): string {
  switch (reason.kind) {
    case 'signal':
      return `signal ${reason.signal}`
    case 'budget':
      return `time budget of ${formatMinutes(reason.seconds)}`
    case 'request':
      return reason.by
  }
}

function formatMinutes(seconds: number): string {
  const minutes = seconds / 60
  return minutes >= 1 ? `${Number(minutes.toFixed(1))} min` : `${Number(seconds.toFixed(2))} s`
}

export const stopSignals = ['SIGINT', 'SIGTERM', 'SIGUSR1'] as const satisfies readonly NodeJS.Signals[]

/** Exit codes of a process ended by a signal, as shells report them: 128 + its number. */
const exitCodes: Record<(typeof stopSignals)[number], number> = { SIGINT: 130, SIGTERM: 143, SIGUSR1: 138 }

/**
 * A scheduler or a terminal may tell a process and the script around it, which tells the process again: the same signal
 * within this time is the same request.
 */
const echoMilliseconds = 200

export interface SignalOptions {
  /** Told of the first signal, to say on the terminal that the run is saving. */
  readonly onFirst?: (signal: NodeJS.Signals) => void
  /** What a second signal does; default: the process ends at once. Nothing on disk is harmed, saves are atomic. */
  readonly exit?: (code: number) => void
}

/**
 * The first SIGINT, SIGTERM or SIGUSR1 asks `stop` for a saved stop, the second one ends the process at once.
 * Returns the function that takes the handlers away again. With it in place Node does not open its debugger on SIGUSR1.
 */
export function installSignalHandlers(stop: StopSource, options: SignalOptions = {}): () => void {
  const exit = options.exit ?? ((code: number) => process.exit(code))
  let first: { signal: NodeJS.Signals; at: number } | null = null
  const handlers = stopSignals.map((signal) => {
    const handler = (): void => {
      const now = performance.now()
      if (first !== null) {
        const isEcho = first.signal === signal && now - first.at < echoMilliseconds
        if (!isEcho) exit(exitCodes[signal])
        return
      }
      first = { signal, at: now }
      stop.request({ kind: 'signal', signal })
      options.onFirst?.(signal)
    }
    process.on(signal, handler)
    return { signal, handler }
  })
  return () => {
    for (const { signal, handler } of handlers) process.off(signal, handler)
  }
}
