import type { Detokenizer } from './detokenize.js'
import type { StopMatcher } from './stop.js'
import type { TokenEvent } from './text-generator.js'

/** A token whose text is not, or not wholly, released yet. */
interface WaitingToken {
  readonly event: TokenEvent
  /** Where its text begins and ends in the answer. */
  readonly start: number
  readonly end: number
}

/**
 * Turns the tokens of one answer into events. A token whose text might belong to a stop string waits, with its log
 * probabilities, until that is decided; if it does belong to one it is never reported.
 */
export class AnswerText {
  readonly #detokenizer: Detokenizer
  readonly #stop: StopMatcher
  #waiting: WaitingToken[] = []
  #length = 0
  #released = 0

  constructor(detokenizer: Detokenizer, stop: StopMatcher) {
    this.#detokenizer = detokenizer
    this.#stop = stop
  }

  /** The events that are certain after one more token, and whether a stop string has ended the answer. */
  push(event: Omit<TokenEvent, 'text' | 'type'>): { events: TokenEvent[]; stopped: boolean } {
    const text = this.#detokenizer.push(event.tokenId)
    const start = this.#length
    this.#length += text.length
    this.#waiting.push({ event: { type: 'token', ...event, text }, start, end: this.#length })
    const step = this.#stop.push(text)
    this.#released += step.text.length
    return { events: step.stopped ? this.#end() : this.#release(), stopped: step.stopped }
  }

  /** The events that waited, at the end of an answer without a stop string. A character never completed is left out. */
  finish(): TokenEvent[] {
    this.#released += this.#stop.flush().length
    return this.#end()
  }

  #release(): TokenEvent[] {
    const ready = this.#waiting.findIndex(({ end }) => end > this.#released)
    return this.#waiting.splice(0, ready === -1 ? this.#waiting.length : ready).map(({ event }) => event)
  }

  #end(): TokenEvent[] {
    const events = this.#release()
    const cut = this.#waiting.find(({ start }) => start < this.#released)
    if (cut === undefined) return events
    return [...events, { ...cut.event, text: cut.event.text.slice(0, this.#released - cut.start) }]
  }
}
