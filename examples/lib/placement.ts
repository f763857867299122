// Where a run computes and how it uses the memory there.
import type { Backend } from '@mirastral/engine'
import { cudaBackend, ortBackend } from '@mirastral/engine'
import type { LoadedModel } from '@mirastral/models'
import { describeEstimate, measureMatmulRate, planMemory } from '@mirastral/models'
import type { FinetuneOptions } from './command-line.js'

/** What a resumed run must keep, for the other way of computing rounds differently. */
export interface Placement {
  readonly checkpointing: 'none' | 'full'
  readonly nf4Storage: 'packed' | 'dense'
}

export const computeDtype = ({ device, precision }: FinetuneOptions) =>
  precision ?? (device === 'cuda' ? 'bfloat16' : 'float32')

const cudaCompute = { float32: 'program', bfloat16: 'bf16', float16: 'f16' } as const

/** The backend, the memory plan, and the estimate to print before the run. */
export async function placeRun(
  options: FinetuneOptions,
  model: LoadedModel,
  earlier: Placement | null,
): Promise<{ backend: Backend; placement: Placement; lines: string[] }> {
  const threads = options.threads === undefined ? {} : { threads: options.threads }
  const { checkpointing, nf4Storage, estimate } = planMemory(model.config, {
    // A preference pair is two rows.
    batchSize: options['batch-size'] * (options.objective === 'dpo' ? 2 : 1),
    sequenceLength: options['max-length'],
    gradientAccumulationSteps: options.accumulation,
    r: options.rank,
    targetModules: options.targets.split(','),
    // Both 16-bit types take the same room.
    dtype: computeDtype(options) === 'float32' ? 'float32' : 'bfloat16',
    checkpointing: earlier?.checkpointing ?? options.checkpointing,
    nf4Storage: earlier?.nf4Storage ?? 'auto',
    ...(options.device === 'cpu'
      ? { matmulRate: await measureMatmulRate(ortBackend(threads)), timeBudget: 60 * options['budget-minutes'] }
      : {}),
  })
  const backend =
    options.device === 'cuda'
      ? cudaBackend({ compute: cudaCompute[computeDtype(options)] })
      : ortBackend({ ...threads, nf4: nf4Storage })
  return { backend, placement: { checkpointing, nf4Storage }, lines: describeEstimate(estimate) }
}
