import { IGNORE_INDEX } from '../conversation.js'
import type { TokenizedExample } from '../conversation.js'
import { GrowableUint32 } from './growable.js'
import type { PagedMemory } from './paged-memory.js'

/** Tokenized rows with random access. */
export interface Examples extends Iterable<TokenizedExample> {
  readonly length: number
  /** Tokens in all rows. */
  readonly tokens: number
  /** Tokens that are trained on, in all rows. */
  readonly trainedTokens: number
  /** @throws RangeError for an index outside [0, length). */
  get(index: number): TokenizedExample
  /** The number of tokens of a row. */
  lengthOf(index: number): number
}

/** Tokens in the form in which they are kept: twice the id, plus one where the token is trained on. */
export type TokenWords = Uint16Array | Uint32Array

/** Where the tokens of some rows lie. */
export interface TokenSource {
  read(offset: number, length: number): TokenWords
}

/** Rows by their place in token sources; the tokens stay where they are, in memory or on disk. */
export class ExampleRows implements Examples {
  private readonly sources: TokenSource[] = []
  private readonly sourceOf: GrowableUint32
  private readonly offsets: GrowableUint32
  private readonly lengths: GrowableUint32
  private readonly trained: GrowableUint32
  private allTokens = 0
  private allTrained = 0

  constructor(memory: PagedMemory) {
    this.sourceOf = new GrowableUint32(memory)
    this.offsets = new GrowableUint32(memory)
    this.lengths = new GrowableUint32(memory)
    this.trained = new GrowableUint32(memory)
  }

  get length(): number {
    return this.lengths.length
  }

  get tokens(): number {
    return this.allTokens
  }

  get trainedTokens(): number {
    return this.allTrained
  }

  add(source: TokenSource, offset: number, length: number, trained: number): void {
    if (this.sources.at(-1) !== source) this.sources.push(source)
    this.sourceOf.push(this.sources.length - 1)
    this.offsets.push(offset)
    this.lengths.push(length)
    this.trained.push(trained)
    this.allTokens += length
    this.allTrained += trained
  }

  /** Forgets the rows from `length` on, for a file that turned out to be broken. */
  truncate(length: number): void {
    this.allTokens -= this.lengths.sumFrom(length)
    this.allTrained -= this.trained.sumFrom(length)
    for (const column of [this.sourceOf, this.offsets, this.lengths, this.trained]) column.truncate(length)
  }

  lengthOf(index: number): number {
    this.check(index)
    return this.lengths.at(index)
  }

  get(index: number): TokenizedExample {
    this.check(index)
    const source = this.sources[this.sourceOf.at(index)]
    const words = source.read(this.offsets.at(index), this.lengths.at(index))
    const inputIds = Int32Array.from(words, (word) => word >>> 1)
    return { inputIds, labels: inputIds.map((id, i) => (words[i] & 1 ? id : IGNORE_INDEX)) }
  }

  *[Symbol.iterator](): Iterator<TokenizedExample> {
    for (let i = 0; i < this.length; i++) yield this.get(i)
  }

  private check(index: number): void {
    if (!Number.isInteger(index) || index < 0 || index >= this.length) {
      throw new RangeError(`examples: an index must be an integer in [0, ${this.length}), got ${index}`)
    }
  }
}
