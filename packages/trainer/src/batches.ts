import type { Batch, TokenizedExample } from '@mirastral/data'
import { collate, Sampler } from '@mirastral/data'

/**
 * Micro-batches by position. `get` must be a function of its arguments alone: the position (epoch and index) is all that a
 * checkpoint keeps of the data order.
 */
export interface BatchSource<B> {
  /** Micro-batches per epoch, the same in every epoch. */
  readonly length: number
  get(epoch: number, index: number): B | Promise<B>
  /** Tokens of a batch without padding, for the speed. */
  inputTokens(batch: B): number
}

/** Rows to train on, by number: an example, or the examples packed into one row. */
export interface RowSource {
  readonly length: number
  get(index: number): Row | Promise<Row>
}

export type Row = TokenizedExample | readonly TokenizedExample[]

/** Rows that are in memory. */
export function rowsOf(rows: readonly Row[]): RowSource {
  return { length: rows.length, get: (index) => rows[index] }
}

export interface BatchOptions {
  readonly batchSize: number
  readonly padTokenId: number
  /** The length of all batches, or ascending lengths of which each batch takes the smallest that fits. Tokens. */
  readonly sequenceLength: number | readonly number[]
  /** Epoch e is shuffled with seed + e, as the Hugging Face Trainer does; without a seed the order of the rows is kept. */
  readonly seed?: number
  /** The length bucket of every row: batches then hold rows of one bucket only. */
  readonly buckets?: ArrayLike<number>
}

/** Micro-batches of rows, in the order of the data package's sampler. */
export function batchesOf(rows: RowSource, options: BatchOptions): BatchSource<Batch> {
  const { padTokenId, sequenceLength } = options
  const order = orderOf(rows.length, options)
  return {
    length: order.batchesPerEpoch,
    inputTokens: countTokens,
    get: async (epoch, index) => {
      const indices = order.indicesAt(epoch, index)
      const picked = await Promise.all([...indices].map(async (i) => rows.get(i)))
      return collate(picked, { padTokenId, sequenceLength })
    },
  }
}

export interface BatchOrder {
  readonly batchesPerEpoch: number
  indicesAt(epoch: number, index: number): Int32Array
}

/** Random access to the sampler's batches, quick where they are asked for one after the other. */
export function orderOf(
  length: number,
  { batchSize, seed, buckets }: Pick<BatchOptions, 'batchSize' | 'seed' | 'buckets'>,
): BatchOrder {
  const newSampler = (): Sampler =>
    new Sampler({ length, batchSize, seed: seed ?? 0, shuffle: seed !== undefined, ...(buckets && { buckets }) })
  if (length === 0) return { batchesPerEpoch: 0, indicesAt: () => new Int32Array() }
  let sampler = newSampler()
  const { batchesPerEpoch } = sampler
  let reached = 0
  const indicesAt = (epoch: number, index: number): Int32Array => {
    const position = epoch * batchesPerEpoch + index
    if (position < reached) {
      sampler = newSampler()
      reached = 0
    }
    let { indices } = sampler.next()
    for (; reached < position; reached++) ({ indices } = sampler.next())
    reached++
    return indices
  }
  return { batchesPerEpoch, indicesAt }
}

/** Tokens of a batch without padding. */
export function countTokens(batch: Batch): number {
  let tokens = 0
  for (const segment of batch.segmentIds) if (segment !== 0) tokens++
  return tokens
}
