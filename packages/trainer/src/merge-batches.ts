import type { Batch } from '@mirastral/data'
import type { Backend } from '@mirastral/engine'
import type { Merging } from './step.js'

/** What of merging does not depend on the kind of batch. */
export const mergingOf = ({
  backend,
}: {
  readonly backend: Pick<Backend, 'name'>
}): Pick<Merging<never>, 'preferred' | 'isOutOfMemory'> => ({
  // A processor is as busy with one row as with four; a GPU is not.
  preferred: backend.name === 'cuda',
  isOutOfMemory: (error) => error instanceof Error && 'code' in error && error.code === 'MIRASTRAL_CUDA_OUT_OF_MEMORY',
})

export const shapeOf = ({ batchSize, sequenceLength }: Batch): string => `${batchSize}x${sequenceLength}`

/** Batches of one shape below each other. */
export function mergeBatches(batches: readonly Batch[]): Batch {
  const [first] = batches
  if (batches.length === 1) return first
  return {
    batchSize: batches.reduce((sum, batch) => sum + batch.batchSize, 0),
    sequenceLength: first.sequenceLength,
    inputIds: joined(batches.map((batch) => batch.inputIds)),
    targets: joined(batches.map((batch) => batch.targets)),
    positions: joined(batches.map((batch) => batch.positions)),
    segmentIds: joined(batches.map((batch) => batch.segmentIds)),
    trainedTokens: batches.reduce((sum, batch) => sum + batch.trainedTokens, 0),
  }
}

/** Arrays of one kind one after the other. */
export function joined<T extends Int32Array | Float32Array>(arrays: readonly T[]): T {
  const [first] = arrays
  if (arrays.length === 1) return first
  const length = arrays.reduce((sum, array) => sum + array.length, 0)
  const whole = (first instanceof Int32Array ? new Int32Array(length) : new Float32Array(length)) as T
  let at = 0
  for (const array of arrays) {
    whole.set(array, at)
    at += array.length
  }
  return whole
}
