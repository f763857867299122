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
 * Releases an answer sentence by sentence: a sentence is shown when it has ended and, together with what was shown before it,
 * has nothing unsafe in it. What is shown is therefore never withdrawn. A sentence longer than 400 characters is released in
 * parts, each judged with everything of the sentence so far.
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
    return this.#release(lastSentenceEnd(this.#held))
  }

  finish(): OutputStep {
    if (this.#ended) return { text: '' }
    const step = this.#release(this.#held.length)
    this.#ended = true
    return step
  }

  /** Judges and releases what is held up to `end`, sentence by sentence, so that what is safe before an unsafe one is shown. */
  #release(end: number): OutputStep {
    let released = ''
    let at = 0
    while (at < end) {
      const next = Math.min(end, at + sentenceEnd(this.#held.slice(at, end)))
      const step = this.#releasePart(this.#held.slice(at, next))
      released += step.text
      if (step.ending) return { text: released, ending: step.ending }
      at = next
    }
    this.#held = this.#held.slice(end)
    if (this.#held.length <= longestHeld) return { text: released }
    const part = this.#releasePart(this.#held.slice(0, clauseEnd(this.#held)))
    this.#held = this.#held.slice(part.text.length)
    return { ...part, text: released + part.text }
  }

  #releasePart(part: string): OutputStep {
    const findings = this.#judge.unsafe(this.#shown + part)
    if (findings.length > 0) {
      this.#ended = true
      const space = this.#shown === '' ? '' : '\n\n'
      const ending = this.#judge.ending(findings)
      return { text: '', ending: { ...ending, text: `${space}${ending.text}` } }
    }
    this.#shown = recent(this.#shown + part)
    return { text: part }
  }
}

const sentenceMark = /[.!?…]["'”’)\]]*\s|\n/g

/** The index after the last complete sentence; 0 if there is none. */
function lastSentenceEnd(text: string): number {
  let end = 0
  for (const match of text.matchAll(sentenceMark)) end = match.index + match[0].length
  return end
}

function sentenceEnd(text: string): number {
  const first = text.matchAll(sentenceMark).next().value
  return first ? first.index + first[0].length : text.length
}

/** Where a long sentence may be cut: after its last clause within the limit, or after its last word. */
function clauseEnd(text: string): number {
  const part = text.slice(0, longestHeld)
  const clause = /^[\s\S]*[,;:—]\s/.exec(part)?.[0].length
  return clause ?? /^[\s\S]*\s/.exec(part)?.[0].length ?? part.length
}

/** The last released text, beginning with a sentence; an unfinished sentence is kept whole up to the limit. */
function recent(text: string): string {
  if (text.length <= remembered) return text
  const from = text.length - remembered
  return text.slice(from + sentenceEnd(text.slice(from, text.length - 1)))
}
