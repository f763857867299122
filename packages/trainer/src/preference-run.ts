import { join } from 'node:path'
import type { BatchOptions } from './batches.js'
import type { PairSource, PreferenceBatch } from './preference-batches.js'
import { preferenceBatchesOf } from './preference-batches.js'
import type { PreferenceStep } from './preference-step.js'
import { referenceLogProbs } from './reference-cache.js'
import type { LazyContext, TrainRequest } from './train.js'

export interface PreferenceRunRequest extends Pick<BatchOptions, 'batchSize' | 'padTokenId' | 'sequenceLength'> {
  readonly step: () => Promise<PreferenceStep>
  readonly train: PairSource
  readonly eval?: PairSource
  readonly seed: number
  /** Where the log-probabilities without the adapter are kept, which each pair needs once; such as the output folder. */
  readonly folder: string
  /** The base model's identity: other models have other log-probabilities. */
  readonly model: string
  /** Told while they are computed. */
  readonly onReference?: (done: number, of: number) => void
}

/**
 * The part of a request to `train` that makes it preference training: the reference's log-probabilities first, which are
 * computed once and kept, then training on pairs.
 */
export function preferenceRun(request: PreferenceRunRequest): Pick<TrainRequest<PreferenceBatch>, 'step' | 'data'> {
  const { folder, onReference, seed, ...batching } = request
  let made: Promise<PreferenceStep> | null = null
  const step = (): Promise<PreferenceStep> => (made ??= request.step())
  const data = async ({ stop, progressed }: LazyContext) => {
    if (request.train.length === 0) return { train: preferenceBatchesOf(request.train, new Float32Array(), batching) }
    const batches = async (name: string, pairs: PairSource, order: { readonly seed?: number }) => {
      const file = join(folder, `reference-${name}.bin`)
      const onProgress = (done: number, of: number): void => {
        progressed()
        onReference?.(done, of)
      }
      const references = await referenceLogProbs({ ...batching, pairs, file, step: await step(), stop, onProgress })
      return preferenceBatchesOf(pairs, references, { ...batching, ...order })
    }
    try {
      const train = await batches('train', request.train, { seed })
      if (!request.eval || request.eval.length === 0) return { train }
      return { train, eval: await batches('eval', request.eval, {}) }
    } catch (error) {
      // The training that would dispose of the step does not begin.
      await (await made)?.dispose()
      throw error
    }
  }
  return { step, data }
}
