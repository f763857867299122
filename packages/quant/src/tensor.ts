import type { QuantType } from './codebook.js'
import { BLOCK_SIZES } from './codebook.js'
import { QuantError } from './errors.js'

/** PyTorch's names of the dtypes that weights are quantized from and dequantized to. */
export type FloatDtype = 'float32' | 'float16' | 'bfloat16'

/** Weights to be quantized: float32 values, or the bits of 16-bit floats. */
export type FloatSource = Float32Array | { readonly dtype: 'f16' | 'bf16'; readonly data: Uint16Array }

/** A tensor of 4-bit codes in blocks of its flattened elements, each block with a scale. */
export interface FourBitTensor {
  readonly quantType: QuantType
  readonly shape: readonly number[]
  /** Elements per absmax; rows do not start new blocks, the last block may be shorter. */
  readonly blockSize: number
  /** The dtype of the weights before they were quantized. */
  readonly dtype: FloatDtype
  /** uint8 [ceil(n / 2)]: element 2i in the high half of byte i, element 2i + 1 in the low half. */
  readonly codes: Uint8Array
  /** float32 [ceil(n / blockSize)]: largest magnitude of each block. */
  readonly absmax: Float32Array
}

export interface Nf4Tensor extends FourBitTensor {
  readonly quantType: 'nf4'
}

/** Number of elements of a shape. Throws QuantError `usage` where a size is not a whole number. */
export function countElements(who: string, shape: readonly number[]): number {
  const count = shape.reduce((product, size) => product * size, 1)
  if (!shape.every((size) => Number.isSafeInteger(size) && size >= 0) || !Number.isSafeInteger(count)) {
    throw new QuantError('usage', `${who}: the shape must have whole sizes, got [${shape.join(',')}]`)
  }
  return count
}

/** Throws QuantError `usage` unless bitsandbytes has this block size. */
export function checkBlockSize(who: string, blockSize: number): void {
  if (!BLOCK_SIZES.some((size) => size === blockSize)) {
    throw new QuantError('usage', `${who}: blockSize must be one of ${BLOCK_SIZES.join(', ')}, got ${blockSize}`)
  }
}

/** Throws QuantError `malformed` unless codes and absmax have the sizes that shape and block size ask for. */
export function checkFourBitTensor(who: string, tensor: FourBitTensor): void {
  checkBlockSize(who, tensor.blockSize)
  const count = countElements(who, tensor.shape)
  const bytes = Math.ceil(count / 2)
  const blocks = Math.ceil(count / tensor.blockSize)
  if (tensor.codes.length !== bytes || tensor.absmax.length !== blocks) {
    const got = `${tensor.codes.length} bytes and ${tensor.absmax.length} absmax`
    throw new QuantError(
      'malformed',
      `${who}: shape [${tensor.shape.join(',')}] in blocks of ${tensor.blockSize} must have ${bytes} bytes and ${blocks} absmax, got ${got}`,
    )
  }
}
