/** What may be shown now, and whether a stop string was met. */
export interface StopStep {
  readonly text: string
  readonly stopped: boolean
}

/**
 * Finds stop strings in a stream of text pieces. Text that could be the beginning of a stop string is held back until it
 * is certain, so no part of one is ever shown.
 */
export class StopMatcher {
  readonly #stops: readonly string[]
  #held = ''
  #stopped = false

  constructor(stops: readonly string[]) {
    this.#stops = stops.filter((stop) => stop !== '')
  }

  /** The next piece of text. After a stop string nothing is released any more. */
  push(piece: string): StopStep {
    if (this.#stopped) return { text: '', stopped: true }
    const text = this.#held + piece
    const found = this.#firstStop(text)
    if (found !== -1) {
      this.#stopped = true
      this.#held = ''
      return { text: text.slice(0, found), stopped: true }
    }
    const keep = this.#possibleBeginning(text)
    this.#held = text.slice(text.length - keep)
    return { text: text.slice(0, text.length - keep), stopped: false }
  }

  /** At the end of the stream: the text that turned out not to begin a stop string. */
  flush(): string {
    const text = this.#held
    this.#held = ''
    return text
  }

  #firstStop(text: string): number {
    let first = -1
    for (const stop of this.#stops) {
      const at = text.indexOf(stop)
      if (at !== -1 && (first === -1 || at < first)) first = at
    }
    return first
  }

  /** The length of the longest end of `text` that begins a stop string. */
  #possibleBeginning(text: string): number {
    let longest = 0
    for (const stop of this.#stops) {
      for (let n = Math.min(stop.length - 1, text.length); n > longest; n--) {
        if (text.endsWith(stop.slice(0, n))) {
          longest = n
          break
        }
      }
    }
    return longest
  }
}
