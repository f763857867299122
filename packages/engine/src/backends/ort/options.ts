import { physicalCores } from './cores.js'

export interface OrtOptions {
  /** Threads of a matrix product; physical cores by default. */
  readonly threads: number
  /** How NF4 constants are kept: `packed` (0.5625 bytes per weight) or `dense` (dequantized once, 4 bytes per weight, faster). */
  readonly nf4: 'packed' | 'dense'
  /** Run in a worker thread, so that the caller's event loop stays free. */
  readonly worker: boolean
  /** Write ONNX Runtime's profile to files with this prefix. */
  readonly profile?: string
}

/**
 * Training programs run as they are written: the runtime's rewriting would merge what checkpointing computes twice, fold
 * NF4 weights to dense ones and undo the order of the nodes, and gains nothing.
 */
export const OPTIMIZE_NOTHING = 'disabled'

export function ortOptions(options: Partial<OrtOptions>): OrtOptions {
  return {
    threads: options.threads ?? physicalCores(),
    nf4: options.nf4 ?? 'packed',
    worker: options.worker ?? true,
    ...(options.profile === undefined ? {} : { profile: options.profile }),
  }
}
