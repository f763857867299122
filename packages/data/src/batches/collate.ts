import { IGNORE_INDEX } from '../conversation.js'
import type { Batch, TokenizedExample } from '../conversation.js'
import { DataError } from '../errors.js'

export interface CollateOptions {
  /** Fills the right of short rows; never a target. */
  padTokenId: number
  /** The length of every row, or ascending lengths (buckets) of which the smallest that fits is taken. Tokens. */
  sequenceLength: number | readonly number[]
}

/**
 * Right-pads rows into a {@link Batch}. A row is one example, or the examples packed into it: each becomes its own
 * segment with positions from 0 and no target in the next one.
 *
 * @throws DataError MIRASTRAL_DATA_OPTION where a row is longer than the (largest) sequence length.
 */
export function collate(
  rows: readonly (TokenizedExample | readonly TokenizedExample[])[],
  options: CollateOptions,
): Batch {
  const packed = rows.map((row): readonly TokenizedExample[] => ('inputIds' in row ? [row] : row))
  const sequenceLength = lengthFor(packed, options.sequenceLength)
  const size = rows.length * sequenceLength
  const batch: Batch = {
    batchSize: rows.length,
    sequenceLength,
    inputIds: new Int32Array(size).fill(options.padTokenId),
    targets: new Int32Array(size).fill(IGNORE_INDEX),
    positions: new Int32Array(size),
    segmentIds: new Int32Array(size),
    trainedTokens: 0,
  }
  packed.forEach((examples, row) => {
    let at = row * sequenceLength
    examples.forEach((example, segment) => {
      placeSegment(batch, at, example, segment + 1)
      at += example.inputIds.length
    })
  })
  return batch
}

function placeSegment(batch: Batch, at: number, { inputIds, labels }: TokenizedExample, segment: number): void {
  batch.inputIds.set(inputIds, at)
  for (let i = 0; i < inputIds.length; i++) {
    batch.positions[at + i] = i
    batch.segmentIds[at + i] = segment
    const target = i + 1 < labels.length ? labels[i + 1] : IGNORE_INDEX
    batch.targets[at + i] = target
    if (target !== IGNORE_INDEX) batch.trainedTokens++
  }
}

function lengthFor(rows: readonly (readonly TokenizedExample[])[], allowed: number | readonly number[]): number {
  let longest = 0
  for (const examples of rows) {
    longest = Math.max(
      longest,
      examples.reduce((sum, example) => sum + example.inputIds.length, 0),
    )
  }
  const lengths = typeof allowed === 'number' ? [allowed] : allowed
  const fitting = lengths.find((length) => length >= longest)
  if (fitting === undefined) {
    throw new DataError(
      'MIRASTRAL_DATA_OPTION',
      `collate: a row must fit the sequence length ${lengths.join(', ')}, got ${longest} tokens; truncate when tokenizing (maxLength)`,
    )
  }
  return fitting
}
