import type { OutputStep, OutputWatch } from '../conversation-guard.js'
import type { Finding, OutputCategory } from './types.js'

/** What the watch asks about a piece of an answer, and what it says in the answer's place. */
export interface OutputJudge {
  /** Findings for which the answer must not go on. */
  unsafe(text: string): readonly Finding<OutputCategory>[]
  ending(findings: readonly Finding<OutputCategory>[]): NonNullable<OutputStep['ending']>
}

/** The longest run of characters that is held back without the end of a sentence. */
const longestHeld = 400
/** Released text that is judged together with the next sentence. */
const remembered = 1200

/**
 * Releases an answer in parts: a part is a sentence, or, where no sentence ends within 400 characters, its clauses up to
 * there. A part is shown when it is complete and, together with what was shown before it, has nothing unsafe in it: what is
 * shown is never withdrawn. Where the parts end depends on the answer alone, not on the pieces in which it arrives.
 */
export class SentenceWatch implements OutputWatch {
  readonly #judge: OutputJudge
  #shown = ''
  #held = ''
  #ended = false

  constructor(judge: OutputJudge) {
    this.#judge = judge
  }

  push(text: string): OutputStep {
    if (this.#ended) return { text: '' }
    this.#held += text
    return this.#release(partEnd)
  }

  finish(): OutputStep {
    if (this.#ended) return { text: '' }
    const step = this.#release((held) => partEnd(held) ?? (held === '' ? undefined : held.length))
    this.#ended = true
    return step
  }

  /** Judges and releases the held parts in turn, so that what is safe before an unsafe one is shown. */
  #release(nextEnd: (held: string) => number | undefined): OutputStep {
    let released = ''
    for (let end = nextEnd(this.#held); end !== undefined; end = nextEnd(this.#held)) {
      const part = this.#held.slice(0, end)
      const findings = this.#judge.unsafe(this.#shown + part)
      if (findings.length > 0) return { text: released, ending: this.#end(findings) }
      this.#shown = recent(this.#shown + part)
      this.#held = this.#held.slice(end)
      released += part
    }
    return { text: released }
  }

  #end(findings: readonly Finding<OutputCategory>[]): NonNullable<OutputStep['ending']> {
    this.#ended = true
    const space = this.#shown === '' ? '' : '\n\n'
    const ending = this.#judge.ending(findings)
    return { ...ending, text: `${space}${ending.text}` }
  }
}

const sentenceMark = /[.!?…]["'”’)\]]*\s|\n/

/** The index after the first part that is complete, whatever follows; undefined if none is. */
function partEnd(held: string): number | undefined {
  const head = held.slice(0, longestHeld)
  const sentence = sentenceMark.exec(head)
  if (sentence) return sentence.index + sentence[0].length
  return held.length > longestHeld ? clauseEnd(head) : undefined
}

/** Where a long sentence is cut: after its last clause, else after its last word, else where the limit is. */
function clauseEnd(head: string): number {
  const cut = /^[\s\S]*[,;:—]\s/.exec(head) ?? /^[\s\S]*\s/.exec(head)
  // A pair of surrogates stays together.
  return cut?.[0].length ?? (/[\ud800-\udbff]$/.test(head) ? head.length - 1 : head.length)
}

/** The last released text, beginning with a sentence where one begins in it. */
function recent(text: string): string {
  if (text.length <= remembered) return text
  const tail = text.slice(text.length - remembered)
  const first = sentenceMark.exec(tail.slice(0, -1))
  return first ? tail.slice(first.index + first[0].length) : tail
}
