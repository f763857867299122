export interface CudaOptions {
  /** Ordinal of the GPU among the visible ones; default 0. */
  readonly device: number
  /**
   * What float32 programs are computed in: `bf16` (default) or `f16` run activations and dense weights in 16 bits with
   * float32 accumulation, states and losses in float32; `program` keeps the dtypes as they are written.
   */
  readonly compute: 'bf16' | 'f16' | 'program'
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
  compute: 'bf16',
  nf4: 'auto',
  memoryLimit: null,
  graphs: true,
  synchronous: false,
}
