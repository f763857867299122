import type { Admission } from './admission.js'
import { ApiError, loggableError, toApiError } from './api-error.js'
import type { Log } from './log.js'
import type { RequestRecord } from './request-record.js'
import { dataEvent, eventStream, eventStreamHeaders } from './sse.js'

/** The client went away; nobody reads the response. */
export class ClientGone extends Error {
  override readonly name = 'ClientGone'
}

export interface AnsweringParts {
  readonly admission: Admission
  /** Milliseconds that one answer may take. */
  readonly requestMs: number
  /** Aborts when the server can no longer wait for answers. */
  readonly kill: AbortSignal
  readonly log: Log
}

/** A place in the server while an answer is made. */
interface Place {
  readonly signal: AbortSignal
  readonly leave: () => void
}

/** Makes answers one place at a time: waits for it, bounds the time, and frees it whatever happens. */
export class Answering {
  readonly #parts: AnsweringParts

  constructor(parts: AnsweringParts) {
    this.#parts = parts
  }

  /** An answer that is sent as a whole. `client` aborts when the client goes away. */
  async whole<T>(client: AbortSignal, record: RequestRecord, produce: (signal: AbortSignal) => Promise<T>): Promise<T> {
    const place = await this.#enter(client, record)
    try {
      return await produce(place.signal)
    } finally {
      place.leave()
    }
  }

  /**
   * An answer that is sent as it comes. What fails before the first event is thrown, so that it becomes an ordinary error
   * response; what fails later is the last event of the stream.
   */
  async stream(
    client: AbortSignal,
    record: RequestRecord,
    produce: (signal: AbortSignal) => AsyncGenerator<string, void, void>,
  ): Promise<Response> {
    const place = await this.#enter(client, record)
    const source = produce(place.signal)
    let first: IteratorResult<string, void>
    try {
      first = await source.next()
    } catch (error) {
      place.leave()
      throw error
    }
    const body = eventStream(startingWith(first, source), {
      onEnd: () => {
        place.leave()
        record.end(client.aborted ? 499 : 200)
      },
      onError: (error) => {
        const shown = toApiError(error)
        record.set({ streamError: shown.details.code ?? shown.type })
        if (shown.status === 500) this.#parts.log({ event: 'error', id: record.id, error: loggableError(error) })
        return dataEvent(shown)
      },
    })
    record.endsLater = true
    return new Response(body, { headers: eventStreamHeaders })
  }

  async #enter(client: AbortSignal, record: RequestRecord): Promise<Place> {
    const { admission, requestMs, kill } = this.#parts
    const { signal, abort, unlink } = linked([client, kill])
    const asked = performance.now()
    let free: () => void
    try {
      free = await admission.enter(signal)
    } catch (error) {
      unlink()
      throw error
    }
    record.set({ queueMs: Math.round(performance.now() - asked) })
    const timer = setTimeout(() => {
      const seconds = Math.round(requestMs / 1000)
      abort(new ApiError(504, 'timeout_error', `The answer took longer than ${seconds} seconds.`, { code: 'timeout' }))
    }, requestMs)
    const leave = (): void => {
      clearTimeout(timer)
      unlink()
      // Ends a generation that nobody waits for any more; for one that has ended it means nothing.
      abort(new ClientGone('the answer is over'))
      free()
    }
    return { signal, leave }
  }
}

/**
 * The source from its first event on, which was asked for already. Not a generator of its own: one that is left before or
 * at its first event would not let go of the source.
 */
function startingWith(
  first: IteratorResult<string, void>,
  source: AsyncGenerator<string, void, void>,
): AsyncIterator<string, void> {
  let given = false
  return {
    next: () => {
      if (given) return source.next()
      given = true
      return Promise.resolve(first)
    },
    return: () => source.return(),
  }
}

/** A signal that aborts with any of the others; `unlink` lets go of them, which live longer. */
function linked(sources: readonly AbortSignal[]): {
  signal: AbortSignal
  abort: (reason: Error) => void
  unlink: () => void
} {
  const controller = new AbortController()
  const listeners = sources.map((source) => {
    const listener = (): void => {
      const { reason } = source as { reason: unknown }
      controller.abort(reason instanceof ApiError ? reason : new ClientGone('the client went away'))
    }
    if (source.aborted) listener()
    else source.addEventListener('abort', listener, { once: true })
    return () => source.removeEventListener('abort', listener)
  })
  return {
    signal: controller.signal,
    abort: (reason) => controller.abort(reason),
    unlink: () => listeners.forEach((remove) => remove()),
  }
}
