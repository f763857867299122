import type { Batch, TokenizedExample } from '@mirastral/data'
import { collate } from '@mirastral/data'
import type { BatchOptions, BatchSource } from './batches.js'
import { countTokens, orderOf } from './batches.js'

/** Two answers to one prompt; their labels are -100 but for the answer. */
export interface PreferencePair {
  readonly chosen: TokenizedExample
  readonly rejected: TokenizedExample
}

/** Pairs by number, in memory or wherever they are. */
export interface PairSource {
  readonly length: number
  get(index: number): PreferencePair | Promise<PreferencePair>
}

/** Pairs that are in memory. */
export const pairsIn = (pairs: readonly PreferencePair[]): PairSource => ({
  length: pairs.length,
  get: (index) => pairs[index],
})

/** Pairs as a training step takes them: the chosen rows first, then the rejected ones in the same order. */
export interface PreferenceBatch {
  readonly rows: Batch
  /** Log-probability of each row's answer without the adapter, f32[rows]. */
  readonly reference: Float32Array
}

export function collatePairs(
  pairs: readonly PreferencePair[],
  options: Pick<BatchOptions, 'padTokenId' | 'sequenceLength'>,
): Batch {
  return collate([...pairs.map((p) => p.chosen), ...pairs.map((p) => p.rejected)], options)
}

/**
 * Micro-batches of pairs. `references`: the log-probabilities of all pairs without the adapter, two a pair, chosen first, as
 * `referenceLogProbs` returns them.
 */
export function preferenceBatchesOf(
  pairs: PairSource,
  references: Float32Array,
  options: Omit<BatchOptions, 'buckets'>,
): BatchSource<PreferenceBatch> {
  const order = orderOf(pairs.length, options)
  return {
    length: order.batchesPerEpoch,
    inputTokens: (batch) => countTokens(batch.rows),
    get: async (epoch, index) => {
      const indices = order.indicesAt(epoch, index)
      const reference = new Float32Array(2 * indices.length)
      indices.forEach((pair, i) => {
        reference[i] = references[2 * pair]
        reference[indices.length + i] = references[2 * pair + 1]
      })
      const picked = await Promise.all([...indices].map(async (i) => pairs.get(i)))
      return { rows: collatePairs(picked, options), reference }
    },
  }
}
