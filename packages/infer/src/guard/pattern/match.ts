import type { Sentence } from '../text/document.js'
import type { IndexedPattern } from './index-by-word.js'
import type { PatternNode } from './parse.js'

/** Named lists of patterns, ready for matching. */
export type Vocabulary = ReadonlyMap<string, IndexedPattern>

/** A half-open range of words of one sentence. */
export interface WordRange {
  readonly from: number
  readonly to: number
}

/** Words that deny. No gap reaches over one, so that no rule reads over a denial; "can't stop", "not only" deny nothing. */
const negations: ReadonlySet<string> = new Set(['not', 'never', 'no'])
const notDenied: ReadonlySet<string> = new Set(['stop', 'help', 'stopping', 'only', 'just', 'control', 'resist'])

/** Matches patterns against one sentence; what a name matches at a place is computed once. */
export class SentenceMatcher {
  readonly #sentence: Sentence
  readonly #vocabulary: Vocabulary
  readonly #barriers: ReadonlySet<string>
  readonly #ends = new Map<string, (readonly number[] | undefined)[]>()
  readonly #found = new Map<string, readonly WordRange[]>()

  constructor(sentence: Sentence, vocabulary: Vocabulary, barriers: ReadonlySet<string>) {
    this.#sentence = sentence
    this.#vocabulary = vocabulary
    this.#barriers = barriers
  }

  get length(): number {
    return this.#sentence.tokens.length
  }

  /** A match at each place where one begins, overlapping ones too: the longest or the shortest. */
  find(pattern: IndexedPattern, which: 'longest' | 'shortest' = 'longest'): WordRange[] {
    const found: WordRange[] = []
    for (let from = 0; from < this.length; from += 1) {
      const ends = this.#indexedEnds(pattern, from).filter((end) => end > from)
      if (ends.length > 0) found.push({ from, to: which === 'longest' ? Math.max(...ends) : Math.min(...ends) })
    }
    return found
  }

  /** The longest matches of a named list. */
  findName(name: string): readonly WordRange[] {
    const known = this.#found.get(name)
    if (known) return known
    const pattern = this.#vocabulary.get(name)
    const found = pattern ? this.find(pattern) : []
    this.#found.set(name, found)
    return found
  }

  /** Whether the named list matches so that the match ends just before `to`, starting at `from` or later. */
  nameEndsAt(name: string, from: number, to: number): boolean {
    for (let start = Math.max(0, from); start < to; start += 1) if (this.nameEnds(name, start).includes(to)) return true
    return false
  }

  /** All places where a match of the named list that begins at `from` can end. */
  nameEnds(name: string, from: number): readonly number[] {
    let byPlace = this.#ends.get(name)
    if (!byPlace) this.#ends.set(name, (byPlace = []))
    const known = byPlace[from]
    if (known) return known
    const pattern = this.#vocabulary.get(name)
    const ends = pattern ? this.#indexedEnds(pattern, from) : []
    byPlace[from] = ends
    return ends
  }

  #indexedEnds(pattern: IndexedPattern, from: number): readonly number[] {
    const options = pattern.byWord.get(this.#sentence.tokens[from]?.word ?? '') ?? []
    if (options.length === 0 && pattern.always.length === 0) return []
    return unique([...options, ...pattern.always].flatMap((option) => this.#nodeEnds(option, from)))
  }

  #nodeEnds(node: PatternNode, from: number): readonly number[] {
    const tokens = this.#sentence.tokens
    switch (node.kind) {
      case 'words':
        return node.words.has(tokens[from]?.word ?? '') ? [from + 1] : []
      case 'name':
        return this.nameEnds(node.name, from)
      case 'number':
        return this.#isNumber(from, node.digits) ? [from + 1] : []
      case 'gap':
        return this.#gapEnds(from, node.most)
      case 'optional':
        return unique([from, ...this.#nodeEnds(node.item, from)])
      case 'not':
        return this.#nodeEnds(node.item, from).length === 0 ? [from] : []
      case 'clauseStart':
        return from === 0 || tokens[from]?.afterPause === true ? [from] : []
      case 'clauseEnd':
        return from === this.length || tokens[from]?.afterPause === true ? [from] : []
      case 'choice':
        return unique(node.options.flatMap((o) => this.#nodeEnds(o, from)))
      case 'sequence':
        return this.#sequenceEnds(node.items, from)
    }
  }

  #sequenceEnds(items: readonly PatternNode[], from: number): readonly number[] {
    let ends: readonly number[] = [from]
    for (const item of items) {
      ends = unique(ends.flatMap((end) => this.#nodeEnds(item, end)))
      if (ends.length === 0) return ends
    }
    return ends
  }

  #isNumber(at: number, digits: number): boolean {
    const word = this.#sentence.tokens[at]?.word ?? ''
    return /^\d+$/.test(word) && word.length >= digits
  }

  #gapEnds(from: number, most: number): number[] {
    const ends = [from]
    for (let at = from; at < Math.min(this.length, from + most); at += 1) {
      if (this.#barriers.has(this.#sentence.tokens[at]?.word ?? '') || this.#denies(at)) break
      ends.push(at + 1)
    }
    return ends
  }

  #denies(at: number): boolean {
    const next = this.#sentence.tokens[at + 1]?.word ?? ''
    return negations.has(this.#sentence.tokens[at]?.word ?? '') && !notDenied.has(next)
  }
}

function unique(numbers: readonly number[]): readonly number[] {
  return numbers.length < 2 ? numbers : [...new Set(numbers)]
}
