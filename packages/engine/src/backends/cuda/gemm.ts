import { internal } from '../../errors.js'
import type { DType } from '../../ir/tensor-type.js'
import type { GemmShape } from './command.js'
import { handleFrom, type Device } from './device.js'
import { CudaError } from './errors.js'
import type { CublasLt } from './ffi.js'

/** NVIDIA recommends 32 MiB for Hopper; all products of a session share it, for they run one after the other. */
export const WORKSPACE_BYTES = 32 * 2 ** 20

const COMPUTE_32F = 68
const CUDA_R_32F = 0
const DESC = { transA: 3, transB: 4 } as const
const LAYOUT = { batchCount: 5, batchStride: 6 } as const
const PREFERENCE = { workspace: 1, alignment: [5, 6, 7, 8] } as const
/** sizeof(cublasLtMatmulHeuristicResult_t): the algorithm (64 bytes), its workspace, its state. */
const RESULT = { bytes: 96, algorithm: 64, state: 72 } as const

function dataType(dtype: DType): number {
  if (dtype === 'f32') return CUDA_R_32F
  if (dtype === 'f16') return 2
  if (dtype === 'bf16') return 14
  throw internal(`no products of ${dtype}`)
}

/** A product that cuBLASLt can run. */
export interface GemmPlan {
  readonly description: bigint
  readonly layouts: { readonly a: bigint; readonly b: bigint; readonly d: bigint }
  readonly algorithm: Uint8Array
}

/**
 * cuBLASLt's products. It is column-major: the row-major d = op(a) op(b) is its dᵀ = op(b)ᵀ op(a)ᵀ, so the operands
 * change places. The heuristic's first algorithm is taken, which is the same in every run.
 */
export class Gemms {
  private readonly lt: CublasLt
  private readonly handle: bigint
  private readonly workspace: bigint
  private readonly plans = new Map<string, GemmPlan | null>()
  private readonly alpha = new Float32Array(1)
  private readonly beta = new Float32Array(1)

  constructor(private readonly device: Device) {
    this.lt = device.libraries.cublasLt
    this.handle = handleFrom(this.lt.cublasLtCreate, 'cublasLtCreate', 'starting cuBLASLt')
    this.workspace = device.alloc(WORKSPACE_BYTES, 'the workspace of matrix products')
  }

  /** The plan of a shape; null if cuBLASLt has no algorithm for it. `alignment` is what all pointers are multiples of. */
  plan(shape: GemmShape, alignment: number): GemmPlan | null {
    const key = `${Object.values(shape).join(' ')} ${alignment}`
    const known = this.plans.get(key)
    if (known !== undefined) return known
    const plan = this.create(shape, alignment)
    this.plans.set(key, plan)
    return plan
  }

  private create(s: GemmShape, alignment: number): GemmPlan | null {
    const doing = `planning a product ${s.m}x${s.n}x${s.k}`
    const make = (
      name: 'cublasLtMatmulDescCreate' | 'cublasLtMatrixLayoutCreate' | 'cublasLtMatmulPreferenceCreate',
      ...args: unknown[]
    ) => handleFrom(this.lt[name], name, doing, ...args)
    const set = (name: keyof CublasLt, handle: bigint, attribute: number, value: ArrayBufferView): void =>
      this.check(name, doing, this.lt[name](handle, attribute, value, BigInt(value.byteLength)))
    const description = make('cublasLtMatmulDescCreate', COMPUTE_32F, CUDA_R_32F)
    set('cublasLtMatmulDescSetAttribute', description, DESC.transA, Int32Array.of(s.transposeB ? 1 : 0))
    set('cublasLtMatmulDescSetAttribute', description, DESC.transB, Int32Array.of(s.transposeA ? 1 : 0))
    const layout = (dtype: DType, rows: number, columns: number, ld: number, stride: number): bigint => {
      const handle = make('cublasLtMatrixLayoutCreate', dataType(dtype), BigInt(columns), BigInt(rows), BigInt(ld))
      if (s.batch > 1) {
        set('cublasLtMatrixLayoutSetAttribute', handle, LAYOUT.batchCount, Int32Array.of(s.batch))
        set('cublasLtMatrixLayoutSetAttribute', handle, LAYOUT.batchStride, BigInt64Array.of(BigInt(stride)))
      }
      return handle
    }
    const layouts = {
      a: s.transposeA ? layout(s.input, s.k, s.m, s.lda, s.strideA) : layout(s.input, s.m, s.k, s.lda, s.strideA),
      b: s.transposeB ? layout(s.input, s.n, s.k, s.ldb, s.strideB) : layout(s.input, s.k, s.n, s.ldb, s.strideB),
      d: layout(s.output, s.m, s.n, s.ldd, s.strideD),
    }
    const preference = make('cublasLtMatmulPreferenceCreate')
    set(
      'cublasLtMatmulPreferenceSetAttribute',
      preference,
      PREFERENCE.workspace,
      BigUint64Array.of(BigInt(WORKSPACE_BYTES)),
    )
    for (const attribute of PREFERENCE.alignment) {
      set('cublasLtMatmulPreferenceSetAttribute', preference, attribute, Uint32Array.of(alignment))
    }
    const algorithm = this.heuristic(description, layouts, preference)
    this.lt.cublasLtMatmulPreferenceDestroy(preference)
    return algorithm && { description, layouts, algorithm }
  }

  private heuristic(description: bigint, { a, b, d }: GemmPlan['layouts'], preference: bigint): Uint8Array | null {
    const result = new Uint8Array(new ArrayBuffer(RESULT.bytes))
    const found = new Int32Array(1)
    const status = this.lt.cublasLtMatmulAlgoGetHeuristic(
      this.handle,
      description,
      b,
      a,
      d,
      d,
      preference,
      1,
      result,
      found,
    )
    const state = new DataView(result.buffer).getInt32(RESULT.state, true)
    return status === 0 && found[0] > 0 && state === 0 ? result.slice(0, RESULT.algorithm) : null
  }

  /** Enqueues d = alpha op(a) op(b) + c. */
  run(plan: GemmPlan, p: { a: bigint; b: bigint; c: bigint | null; d: bigint; alpha: number }, doing: string): void {
    const { description, layouts, algorithm } = plan
    this.alpha[0] = p.alpha
    this.beta[0] = p.c === null ? 0 : 1
    const status = this.lt.cublasLtMatmul(
      ...[this.handle, description, this.alpha, p.b, layouts.b, p.a, layouts.a, this.beta, p.c ?? p.d, layouts.d],
      ...[p.d, layouts.d, algorithm, this.workspace, BigInt(WORKSPACE_BYTES), this.device.stream],
    )
    this.check('cublasLtMatmul', doing, status)
  }

  private check(call: string, doing: string, status: number): void {
    if (status !== 0) throw new CudaError(call, status, doing, 'a cuBLAS error')
  }

  close(): void {
    for (const plan of this.plans.values()) {
      if (!plan) continue
      this.lt.cublasLtMatmulDescDestroy(plan.description)
      for (const layout of Object.values(plan.layouts)) this.lt.cublasLtMatrixLayoutDestroy(layout)
    }
    this.device.free(this.workspace)
    this.lt.cublasLtDestroy(this.handle)
  }
}
