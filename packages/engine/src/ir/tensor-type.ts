import { EngineError } from '../errors.js'

/**
 * Element types of program values. `nf4` is a packed 4-bit weight (bitsandbytes' NF4, block-wise scales): only constants
 * have it, and only `linear`, `embedding` and `dequantize` read it.
 */
export type DType = 'f32' | 'f16' | 'bf16' | 'i32' | 'u8' | 'bool' | 'nf4'

export type Shape = readonly number[]

/** The static type of a value: an element type and a shape; `blockSize` (elements per scale) is present on `nf4` only. */
export interface TensorType {
  readonly dtype: DType
  readonly shape: Shape
  readonly blockSize?: number
}

export const f32 = (...shape: number[]): TensorType => ({ dtype: 'f32', shape })
export const bf16 = (...shape: number[]): TensorType => ({ dtype: 'bf16', shape })
export const f16 = (...shape: number[]): TensorType => ({ dtype: 'f16', shape })
export const i32 = (...shape: number[]): TensorType => ({ dtype: 'i32', shape })
export const bool = (...shape: number[]): TensorType => ({ dtype: 'bool', shape })
export const nf4 = (shape: Shape, blockSize = 64): TensorType => ({ dtype: 'nf4', shape, blockSize })

export const isFloat = (dtype: DType): boolean => dtype === 'f32' || dtype === 'f16' || dtype === 'bf16'

/** Number of elements of a shape; 1 for a scalar. */
export function sizeOf(shape: Shape): number {
  let size = 1
  for (const extent of shape) size *= extent
  return size
}

/** Row-major strides in elements. */
export function stridesOf(shape: Shape): number[] {
  const strides = new Array<number>(shape.length)
  let stride = 1
  for (let axis = shape.length - 1; axis >= 0; axis--) {
    strides[axis] = stride
    stride *= shape[axis] ?? 1
  }
  return strides
}

export const sameShape = (a: Shape, b: Shape): boolean => a.length === b.length && a.every((n, axis) => n === b[axis])

export const sameType = (a: TensorType, b: TensorType): boolean =>
  a.dtype === b.dtype && a.blockSize === b.blockSize && sameShape(a.shape, b.shape)

/** `f32[2,3]`, `nf4/64[16,8]`: the way types appear in printed programs and in errors. */
export function formatType(type: TensorType): string {
  const block = type.blockSize === undefined ? '' : `/${type.blockSize}`
  return `${type.dtype}${block}[${type.shape.join(',')}]`
}

/** The shape of `a op b` under NumPy broadcasting; throws where the extents disagree. */
export function broadcastShapes(who: string, a: Shape, b: Shape): number[] {
  const rank = Math.max(a.length, b.length)
  return Array.from({ length: rank }, (_, axis) => {
    const x = a[a.length - rank + axis] ?? 1
    const y = b[b.length - rank + axis] ?? 1
    if (x !== y && x !== 1 && y !== 1) {
      throw new EngineError(`${who}: shapes must broadcast, got [${a.join(',')}] and [${b.join(',')}]`)
    }
    return x === 1 ? y : x
  })
}

/** Bytes of a dense value of this type on a device; for `nf4`: codes and float32 scales. */
export function byteSize(type: TensorType): number {
  const size = sizeOf(type.shape)
  switch (type.dtype) {
    case 'f32':
    case 'i32':
      return size * 4
    case 'f16':
    case 'bf16':
      return size * 2
    case 'u8':
    case 'bool':
      return size
    case 'nf4':
      return Math.ceil(size / 2) + 4 * Math.ceil(size / (type.blockSize ?? 64))
  }
}
