import { IGNORE_INDEX } from './conversation.js'
import type { TokenizedExample } from './conversation.js'

/** Tokenized rows with random access. */
export interface Examples extends Iterable<TokenizedExample> {
  readonly length: number
  /** Tokens in all rows. */
  readonly tokens: number
  /** @throws RangeError for an index outside [0, length). */
  get(index: number): TokenizedExample
  /** The number of tokens of a row. */
  lengthOf(index: number): number
}

/** Where tokens lie: twice the id, plus one where it is trained on. */
export interface TokenSource {
  read(offset: number, length: number): Uint32Array
}

/** Rows by their place in token sources; the tokens stay where they are. */
export class ExampleRows implements Examples {
  private readonly sources: TokenSource[] = []
  private readonly sourceOf: number[] = []
  private readonly offsets: number[] = []
  private readonly lengths: number[] = []
  private total = 0

  get length(): number {
    return this.lengths.length
  }

  get tokens(): number {
    return this.total
  }

  add(source: TokenSource, offset: number, length: number): void {
    if (this.sources.at(-1) !== source) this.sources.push(source)
    this.sourceOf.push(this.sources.length - 1)
    this.offsets.push(offset)
    this.lengths.push(length)
    this.total += length
  }

  /** Forgets the rows from `length` on, for a file that turned out to be broken. */
  truncate(length: number): void {
    for (let i = length; i < this.lengths.length; i++) this.total -= this.lengths[i]
    this.sourceOf.length = this.offsets.length = this.lengths.length = length
  }

  lengthOf(index: number): number {
    this.check(index)
    return this.lengths[index]
  }

  get(index: number): TokenizedExample {
    this.check(index)
    const words = this.sources[this.sourceOf[index]].read(this.offsets[index], this.lengths[index])
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
