import type { DType } from '../ir/tensor-type.js'

/** |actual - expected| <= absolute + relative |expected|. */
export interface Tolerance {
  readonly relative: number
  readonly absolute: number
}

/** The one table of tolerances: a test picks a row, it does not invent a number. */
export const tolerances = {
  /** The same float64 arithmetic in another order. */
  exact: { relative: 1e-9, absolute: 1e-12 },
  /** Central differences of the float64 reference. */
  differences: { relative: 2e-5, absolute: 2e-7 },
  /** One op in float32 against float64. */
  f32: { relative: 2e-5, absolute: 2e-5 },
  /** A whole model in float32 against float64 or PyTorch's float32. */
  f32Model: { relative: 1e-4, absolute: 1e-5 },
  /** One op in bfloat16 (8 bits of precision) with float32 accumulation. */
  bf16: { relative: 2e-2, absolute: 2e-2 },
  /** A whole model in bfloat16. */
  bf16Model: { relative: 5e-2, absolute: 5e-2 },
  /** One op in half precision with float32 accumulation. */
  f16: { relative: 3e-3, absolute: 3e-3 },
} as const satisfies Readonly<Record<string, Tolerance>>

/** The row for one op computed in a dtype. */
export function toleranceOf(dtype: DType): Tolerance {
  if (dtype === 'bf16') return tolerances.bf16
  return dtype === 'f16' ? tolerances.f16 : tolerances.f32
}
