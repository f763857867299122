import type { TokenizedExample } from '../conversation.js'
import type { Examples } from '../rows/example-rows.js'
import { pack } from './pack.js'

/** Rows packed into bins: what a sampler counts, and `collate` takes, in place of single rows. */
export class PackedRows {
  private readonly examples: Examples
  private readonly bins: readonly Int32Array[]

  /** @param capacity tokens of a bin: the sequence length. */
  constructor(examples: Examples, capacity: number) {
    this.examples = examples
    this.bins = pack(
      Array.from({ length: examples.length }, (_, i) => examples.lengthOf(i)),
      capacity,
    )
  }

  get length(): number {
    return this.bins.length
  }

  get(index: number): TokenizedExample[] {
    return Array.from(this.bins[index], (row) => this.examples.get(row))
  }
}

/**
 * The bucket of every row: the index of the first of the ascending lengths that it fits into.
 *
 * @throws RangeError where a row fits into none.
 */
export function lengthBuckets(examples: Examples, lengths: readonly number[]): Int32Array {
  return Int32Array.from({ length: examples.length }, (_, i) => {
    const bucket = lengths.findIndex((length) => length >= examples.lengthOf(i))
    if (bucket < 0) {
      throw new RangeError(`lengthBuckets: a row must fit ${lengths.join(', ')} tokens, got ${examples.lengthOf(i)}`)
    }
    return bucket
  })
}
