export interface CudaOptions {
  /** Ordinal of the GPU among the visible ones; default 0. */
  readonly device: number
  /**
   * `packed`: nf4 weights are dequantized before each use, the least memory. `resident`: a 16-bit copy stays on the
   * device. `auto` (default): resident where memory allows. The results are the same, bit for bit.
   */
  readonly nf4: 'auto' | 'packed' | 'resident'
  /** Bytes that `auto` may plan with; default what the device has free. */
  readonly memoryLimit: number | null
  /** Replay runs as CUDA graphs; default true. */
  readonly graphs: boolean
  /** Wait after every kernel, so that a fault names its op; default false. */
  readonly synchronous: boolean
}

export const defaultCudaOptions: CudaOptions = {
  device: 0,
  nf4: 'auto',
  memoryLimit: null,
  graphs: true,
  synchronous: false,
}
