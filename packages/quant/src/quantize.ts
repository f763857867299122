import { bf16ToF32, f16ToF32 } from '@mirastral/safetensors'
import type { QuantType } from './codebook.js'
import { codebook } from './codebook.js'
import { bf16BlockEncoder } from './encode-bf16.js'
import { blockEncoder, encodeTail, nf4BlockEncoder } from './encode-f32.js'
import { QuantError } from './errors.js'
import type { FloatDtype, FloatSource, FourBitTensor, Nf4Tensor } from './tensor.js'
import { checkBlockSize, countElements } from './tensor.js'

export interface QuantizeOptions {
  /** Default: one dimension. */
  shape?: readonly number[]
  /** 32 to 4096, a power of two; default 64. */
  blockSize?: number
  /** Of the tensor, for errors. */
  name?: string
}

/** Fills `codes` and `absmax` of a run of blocks, of which only the last may be short; `first` is for errors. */
export type Encoder = (
  source: FloatSource,
  blockSize: number,
  codes: Uint8Array,
  absmax: Float32Array,
  who: string,
  first: number,
) => void

/** float16 is converted to float32 in pieces of this many elements: a multiple of every block size, small for a cache. */
const pieceElements = 4096

/**
 * The codec of a quant type, equal to bitsandbytes' on the CPU bit for bit. It holds look-up tables of 256 KiB, made
 * when the first bfloat16 tensor needs them: keep one for many tensors. It throws QuantError `non-finite`.
 */
export function createEncoder(quantType: QuantType): Encoder {
  const book = codebook(quantType)
  const encodeF32 = quantType === 'nf4' ? nf4BlockEncoder(book) : blockEncoder(book)
  let encodeBf16: ReturnType<typeof bf16BlockEncoder> | undefined

  const encodeF16: ReturnType<typeof bf16BlockEncoder> = (source, blockSize, codes, absmax) => {
    const values = new Float32Array(Math.min(pieceElements, source.length))
    for (let start = 0; start < source.length; start += pieceElements) {
      const piece = source.subarray(start, start + pieceElements)
      const bad = encodeF32(
        f16ToF32(piece, values.subarray(0, piece.length)),
        blockSize,
        codes.subarray(start / 2),
        absmax.subarray(start / blockSize),
      )
      if (bad >= 0) return start + bad
    }
    return -1
  }

  return (source, blockSize, codes, absmax, who, first) => {
    const count = lengthOf(source)
    const full = count - (count % blockSize)
    let bad: number
    if (source instanceof Float32Array) bad = encodeF32(source.subarray(0, full), blockSize, codes, absmax)
    else if (source.dtype === 'f16') bad = encodeF16(source.data.subarray(0, full), blockSize, codes, absmax)
    else {
      encodeBf16 ??= bf16BlockEncoder(book, encodeF32)
      bad = encodeBf16(pairAligned(source.data.subarray(0, full)), blockSize, codes, absmax)
    }
    if (bad < 0 && full < count) {
      const tailCodes = codes.subarray(full / 2, Math.ceil(count / 2))
      const ok = encodeTail(toF32(source, full, count), book, tailCodes, absmax.subarray(full / blockSize))
      if (!ok) bad = full
    }
    if (bad >= 0) throw nonFinite(who, source, bad, Math.min(bad + blockSize, count), first)
  }
}

/**
 * Quantizes to NF4. n elements give `codes` [ceil(n / 2)] and `absmax` [ceil(n / blockSize)], equal to bitsandbytes'
 * CPU implementation bit for bit. Throws QuantError: `usage`, `non-finite` (naming the tensor and the first element).
 */
export function quantizeNf4(data: FloatSource, options: QuantizeOptions = {}): Nf4Tensor {
  return { ...quantize4bit(data, 'nf4', options), quantType: 'nf4' }
}

/** Quantizes to NF4 or FP4; see `quantizeNf4`. */
export function quantize4bit(
  data: FloatSource,
  quantType: QuantType,
  options: QuantizeOptions = {},
  encoder: Encoder = createEncoder(quantType),
): FourBitTensor {
  const tensor = allocate(lengthOf(data), dtypeOf(data), quantType, options)
  encoder(data, tensor.blockSize, tensor.codes, tensor.absmax, whoOf(options), 0)
  return tensor
}

/** The result of quantizing `count` elements, with its arrays still empty, after all arguments are checked. */
export function allocate(
  count: number,
  dtype: FloatDtype,
  quantType: QuantType,
  options: QuantizeOptions,
): FourBitTensor {
  const { blockSize = 64, shape = [count] } = options
  const who = whoOf(options)
  checkBlockSize(who, blockSize)
  if (countElements(who, shape) !== count) {
    throw new QuantError(
      'usage',
      `${who}: shape [${shape.join(',')}] must have as many elements as the data, got ${count}`,
    )
  }
  return {
    quantType,
    shape: [...shape],
    blockSize,
    dtype,
    codes: new Uint8Array(Math.ceil(count / 2)),
    absmax: new Float32Array(Math.ceil(count / blockSize)),
  }
}

export function whoOf({ name }: QuantizeOptions): string {
  return name === undefined ? 'quantize' : `quantize ${name}`
}

export function lengthOf(source: FloatSource): number {
  return source instanceof Float32Array ? source.length : source.data.length
}

export function dtypeOf(source: FloatSource): FloatDtype {
  if (source instanceof Float32Array) return 'float32'
  return source.dtype === 'f16' ? 'float16' : 'bfloat16'
}

/** Elements `start` to `end` as float32. */
export function toF32(source: FloatSource, start: number, end: number): Float32Array {
  if (source instanceof Float32Array) return source.subarray(start, end)
  const bits = source.data.subarray(start, end)
  return source.dtype === 'f16' ? f16ToF32(bits) : bf16ToF32(bits)
}

/** Two elements are read at once, which needs their first at a multiple of four bytes. */
function pairAligned(data: Uint16Array): Uint16Array {
  return data.byteOffset % 4 === 0 ? data : data.slice()
}

function nonFinite(who: string, source: FloatSource, start: number, end: number, first: number): QuantError {
  const values = toF32(source, start, end)
  const index = values.findIndex((value) => !Number.isFinite(value))
  const got = `${values[index]} at element ${first + start + index}`
  return new QuantError('non-finite', `${who}: weights must be finite, got ${got}; the checkpoint is damaged`)
}
