/**
 * The element types of the format, in the order in which the reference writer lays tensors out
 * (`Dtype` of safetensors/src/tensor.rs, last to first), with their size in bits.
 */
const bits = {
  U64: 64,
  I64: 64,
  F64: 64,
  C64: 64,
  F32: 32,
  U32: 32,
  I32: 32,
  BF16: 16,
  F16: 16,
  U16: 16,
  I16: 16,
  F8_E5M2FNUZ: 8,
  F8_E4M3FNUZ: 8,
  F8_E8M0: 8,
  F8_E4M3: 8,
  F8_E5M2: 8,
  I8: 8,
  U8: 8,
  F6_E3M2: 6,
  F6_E2M3: 6,
  F4: 4,
  BOOL: 8,
} as const

export type Dtype = keyof typeof bits

/** All element types, in the order in which a file holds them. */
export const DTYPES = Object.keys(bits) as readonly Dtype[]

const rank = new Map<string, number>(DTYPES.map((dtype, index) => [dtype, index]))

export function isDtype(value: unknown): value is Dtype {
  return typeof value === 'string' && rank.has(value)
}

/** Size of one element in bits: 64 to 4. */
export function dtypeBits(dtype: Dtype): number {
  return bits[dtype]
}

/** The place of a dtype in a file: tensors are ordered by it, then by name. */
export function dtypeRank(dtype: Dtype): number {
  return rank.get(dtype) ?? DTYPES.length
}

/** Number of elements of a shape (1 for a scalar `[]`), or undefined if it is not a safe integer. */
export function elementCount(shape: readonly number[]): number | undefined {
  if (shape.includes(0)) return 0
  let count = 1
  for (const size of shape) {
    count *= size
    if (!Number.isSafeInteger(count)) return undefined
  }
  return count
}

/**
 * Bytes of a tensor. Undefined where the format does not allow it: more than 2^53 bits, or a sub-byte dtype whose
 * elements do not fill whole bytes.
 */
export function tensorBytes(dtype: Dtype, shape: readonly number[]): number | undefined {
  const count = elementCount(shape)
  if (count === undefined) return undefined
  const total = count * bits[dtype]
  return Number.isSafeInteger(total) && total % 8 === 0 ? total / 8 : undefined
}
