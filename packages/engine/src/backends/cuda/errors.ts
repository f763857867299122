import { EngineError } from '../../errors.js'

/** A call of the CUDA driver, NVRTC or cuBLASLt that did not succeed. */
export class CudaError extends EngineError {
  override readonly name: string = 'CudaError'
  override readonly code: string = 'MIRASTRAL_CUDA'

  constructor(
    /** The failing call, such as `cuLaunchKernel`. */
    readonly call: string,
    /** The library's status code. */
    readonly status: number,
    /** What was being done, such as `rmsNorm (layers.3/norm)`. */
    readonly doing: string,
    reason: string,
  ) {
    super(`cuda: ${doing}: ${call} failed with ${reason} (${status})`)
  }
}

/** The device has not enough memory; the message says how much was asked for and what to change. */
export class CudaOutOfMemoryError extends EngineError {
  override readonly name: string = 'CudaOutOfMemoryError'
  override readonly code: string = 'MIRASTRAL_CUDA_OUT_OF_MEMORY'
  override readonly exitCode = 2

  constructor(what: string, bytes: number, free: number, total: number) {
    super(
      `cuda: out of memory: ${what} needs ${gib(bytes)}, ${gib(free)} of ${gib(total)} are free; ` +
        'use a smaller batch or sequence length, turn activation checkpointing on, or keep nf4 weights packed',
    )
  }
}

export const gib = (bytes: number): string => `${(bytes / 2 ** 30).toFixed(2)} GiB`
