import type { ConversationGuard, OutputStep } from '../conversation-guard.js'

/** How an answer ended that went through a guard. */
export type StreamVerdict = { readonly blocked: false } | { readonly blocked: true; readonly message: string }

/**
 * An answer behind a guard, as text: what comes out is safe to show as it comes. When the guard ends the answer, its message
 * follows, the source is closed, and `verdict` says so.
 */
export class GuardedStream implements AsyncIterable<string> {
  readonly #source: AsyncIterable<string>
  readonly #guard: Pick<ConversationGuard, 'watchOutput'>
  #verdict: StreamVerdict | undefined

  constructor(source: AsyncIterable<string>, guard: Pick<ConversationGuard, 'watchOutput'>) {
    this.#source = source
    this.#guard = guard
  }

  /** Known when the iteration has ended. */
  get verdict(): StreamVerdict | undefined {
    return this.#verdict
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<string, void, void> {
    const watch = this.#guard.watchOutput([])
    for await (const piece of this.#source) {
      const step = watch.push(piece)
      if (step.text !== '') yield step.text
      if (step.ending) return yield* this.#end(step.ending)
    }
    const last = watch.finish()
    if (last.text !== '') yield last.text
    if (last.ending) return yield* this.#end(last.ending)
    this.#verdict = { blocked: false }
  }

  *#end(ending: NonNullable<OutputStep['ending']>): Generator<string, void, void> {
    this.#verdict = { blocked: true, message: ending.text }
    if (ending.text !== '') yield ending.text
  }
}
