import { bf16ToF32 } from '@mirastral/safetensors'
import type { Codebook } from './codebook.js'
import { rankOf, reciprocal } from './codebook.js'
import type { EncodeBlocks } from './encode-f32.js'

/** Quantizes whole blocks of bfloat16 bits: returns the first element of a block that is not finite, or -1. */
export type EncodeBf16Blocks = (
  source: Uint16Array,
  blockSize: number,
  codes: Uint8Array,
  absmax: Float32Array,
) => number

/** Distance in bit patterns that the table covers below an absmax: almost eight octaves of 128 patterns. */
const span = 1023

/**
 * The codec for bfloat16: integer arithmetic and one table look-up per element.
 *
 * A normalised value, fround(x * fround(1 / absmax)), depends only on the mantissas of x and absmax and on the
 * difference of their exponents, unless a number involved is subnormal. So codes are tabulated for each of the 128
 * mantissas of absmax and for each distance, in bit patterns, of |x| below it up to `span`. Smaller values (2^-8 of
 * absmax) and blocks of extreme absmax take the exact way; both are rare.
 *
 * Rows are laid out so that `(bits - floor) & 0x83ff`, sign and distance, indexes a row: 32 rows of 1024 interleave
 * with 32 for the other sign, four times.
 */
export function bf16BlockEncoder(book: Codebook, exact: EncodeBlocks): EncodeBf16Blocks {
  const table = codeTable(book)
  const zeroCode = book.codeOfRank[rankOf(book.thresholds, 0)]
  const allSmallAreZero = book.thresholds.every((t) => Math.abs(t) > 2 ** -7)
  const value = new Float32Array(1)
  const valueBits = new Int32Array(value.buffer)
  const smallCode = (bits: number, scale: number): number => {
    if (allSmallAreZero) return zeroCode
    valueBits[0] = bits << 16
    return book.codeOfRank[rankOf(book.thresholds, Math.fround(value[0] * scale))]
  }

  return (source, blockSize, codes, absmax) => {
    const pairs = new Int32Array(source.buffer, source.byteOffset, source.length >> 1)
    const absmaxBits = new Int32Array(absmax.buffer, absmax.byteOffset, absmax.length)
    const pairsPerBlock = blockSize >> 1
    const length = Math.floor(source.length / blockSize) * pairsPerBlock
    for (let start = 0, block = 0; start < length; start += pairsPerBlock, block++) {
      const end = start + pairsPerBlock
      const max = maxMagnitude(pairs, start, end)
      if (max >= 0x7f80) return start * 2
      absmaxBits[block] = max << 16
      if (max < 0x80 + span || max >= 0x7e80) {
        const values = bf16ToF32(source.subarray(start * 2, end * 2))
        exact(values, blockSize, codes.subarray(start, end), absmax.subarray(block, block + 1))
        continue
      }
      const scale = reciprocal(absmax[block])
      const row = rowOf(max)
      const floor = max - span
      const floors = floor | (floor << 16)
      for (let i = start; i < end; i++) {
        const pair = pairs[i]
        const distances = pair - floors
        // A value below the floor borrows, which shows in the bits between distance and sign.
        if ((distances & 0x7c007c00) === 0) {
          codes[i] = (table[row + (distances & 0x83ff)] << 4) | table[row + ((distances >>> 16) & 0x83ff)]
        } else {
          const first = pair & 0xffff
          const second = pair >>> 16
          const high = (first & 0x7fff) < floor ? smallCode(first, scale) : table[row + ((first - floor) & 0x83ff)]
          const low = (second & 0x7fff) < floor ? smallCode(second, scale) : table[row + ((second - floor) & 0x83ff)]
          codes[i] = (high << 4) | low
        }
      }
    }
    return -1
  }
}

function rowOf(absmaxBits: number): number {
  return ((absmaxBits & 31) << 10) | ((absmaxBits & 96) << 11)
}

/** uint8 [4, 2, 32, 1024] for (high two mantissa bits, sign, low five mantissa bits, distance above the floor). */
function codeTable({ thresholds, codeOfRank }: Codebook): Uint8Array {
  const table = new Uint8Array(4 * 2 * 32 * 1024)
  const one = 0x3f80
  const values = bf16ToF32(Uint16Array.from({ length: 128 + 1024 }, (_, i) => one - span + i))
  for (let mantissa = 0; mantissa < 128; mantissa++) {
    const scale = reciprocal(values[span + mantissa])
    const row = rowOf(one + mantissa)
    let rank = rankOf(thresholds, 0)
    let negativeRank = rank
    for (let distance = 0; distance <= span; distance++) {
      const value = Math.fround(values[mantissa + distance] * scale)
      while (rank < 15 && value > thresholds[rank]) rank++
      while (negativeRank > 0 && -value <= thresholds[negativeRank - 1]) negativeRank--
      table[row + distance] = codeOfRank[rank]
      table[row + 0x8000 + distance] = codeOfRank[negativeRank]
    }
  }
  return table
}

/** Largest magnitude in pairs of bfloat16, as bits; see `maxMagnitude` of encode-f32.ts for the branch-free maximum. */
function maxMagnitude(pairs: Int32Array, start: number, end: number): number {
  let a = 0
  let b = 0
  let c = 0
  let d = 0
  for (let i = start; i < end; i += 2) {
    const first = pairs[i]
    const second = pairs[i + 1]
    // The high element decides the order of the whole pair; what the low one adds is shifted out at the end.
    let t = (first & 0x7fffffff) - a
    a += t & ~(t >> 31)
    t = (first & 0x7fff) - b
    b += t & ~(t >> 31)
    t = (second & 0x7fffffff) - c
    c += t & ~(t >> 31)
    t = (second & 0x7fff) - d
    d += t & ~(t >> 31)
  }
  return Math.max(a >>> 16, b, c >>> 16, d)
}
