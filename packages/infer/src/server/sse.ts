import { setImmediate as nextTurn } from 'node:timers/promises'

const encoder = new TextEncoder()

/** One server-sent event of JSON data. JSON has no line breaks of its own, so nothing in it can begin another event. */
export const dataEvent = (data: unknown): string => `data: ${JSON.stringify(data)}\n\n`

export interface EventStreamOptions {
  /** Called once, when everything is sent or the reader went away. */
  readonly onEnd: () => void
  /** What to send when the source throws. */
  readonly onError: (error: unknown) => string
}

/**
 * A response body of server-sent events. The source is asked for the next event only when the reader has taken the last
 * ones, so a slow reader slows the generation down instead of filling memory.
 */
export function eventStream(
  source: AsyncIterator<string, void>,
  options: EventStreamOptions,
): ReadableStream<Uint8Array> {
  let ended = false
  const end = (): void => {
    if (ended) return
    ended = true
    options.onEnd()
  }
  return new ReadableStream<Uint8Array>({
    async pull(controller) {
      try {
        const next = await source.next()
        if (ended) return
        if (next.done !== true) {
          controller.enqueue(encoder.encode(next.value))
          // A source that never waits would otherwise keep all other requests from being served.
          await nextTurn()
          return
        }
        controller.close()
      } catch (error) {
        if (ended) return
        controller.enqueue(encoder.encode(options.onError(error)))
        controller.close()
      }
      end()
    },
    cancel() {
      end()
      void source.return?.()?.catch(() => undefined)
    },
  })
}

export const eventStreamHeaders: Readonly<Record<string, string>> = {
  'content-type': 'text/event-stream; charset=utf-8',
  'x-accel-buffering': 'no',
}
