import { randomUUID } from 'node:crypto'
import type { Log } from './log.js'

/** What is logged about one request: numbers and names, gathered while it is answered and written once. */
export class RequestRecord {
  readonly id: string = randomUUID()
  /** Set when the response is a stream: it logs itself at its end. */
  endsLater = false
  readonly #log: Log
  readonly #method: string
  readonly #started = performance.now()
  readonly #fields: Record<string, number | string | boolean> = {}
  #route = 'unknown'
  #ended = false

  constructor(log: Log, method: string) {
    this.#log = log
    this.#method = method
  }

  /** The route's pattern, never the path: a path may hold anything. */
  set route(pattern: string) {
    this.#route = pattern
  }

  set(fields: Readonly<Record<string, number | string | boolean>>): void {
    Object.assign(this.#fields, fields)
  }

  end(status: number): void {
    if (this.#ended) return
    this.#ended = true
    const ms = Math.round(performance.now() - this.#started)
    const { id } = this
    this.#log({ event: 'request', id, method: this.#method, route: this.#route, status, ms, ...this.#fields })
  }
}
