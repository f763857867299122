import type { Codebook } from './codebook.js'
import { TINY_ABSMAX, rankOf, reciprocal } from './codebook.js'

/** Quantizes whole blocks of float32: returns the first element of a block that is not finite, or -1. */
export type EncodeBlocks = (source: Float32Array, blockSize: number, codes: Uint8Array, absmax: Float32Array) => number

const infinityBits = 0x7f800000

/**
 * The codec of NF4 for float32, two multiplications and one table look-up per element.
 *
 * With s the normalised value, k = trunc(s * 2^30) is an exact integer wherever a threshold can lie (|s| >= 2^-7), and
 * the range of k is cut into 33 bins of 2^26 that hold one threshold T at most. The table holds, for a bin below whose
 * threshold the rank is q, (q + 1) * 2^27 - T - 1: added to k, its top five bits are q where k <= T and q + 1 above.
 */
export function nf4BlockEncoder({ thresholds }: Codebook): EncodeBlocks {
  const table = binTable(thresholds)
  return (source, blockSize, codes, absmax) => {
    const absmaxBits = new Int32Array(absmax.buffer, absmax.byteOffset, absmax.length)
    const bits = new Int32Array(source.buffer, source.byteOffset, source.length)
    const length = source.length - (source.length % blockSize)
    for (let start = 0, block = 0; start < length; start += blockSize, block++) {
      const end = start + blockSize
      const max = maxMagnitude(bits, start, end)
      if (max >= infinityBits) return start
      absmaxBits[block] = max
      const scale = reciprocal(absmax[block]) * 2 ** 30
      for (let i = start, o = start >> 1; i < end; i += 2, o++) {
        const k0 = Math.fround(source[i] * scale) | 0
        const k1 = Math.fround(source[i + 1] * scale) | 0
        codes[o] = (((k0 + table[(k0 >> 26) + 16]) >>> 27) << 4) | ((k1 + table[(k1 >> 26) + 16]) >>> 27)
      }
    }
    return -1
  }
}

function binTable(thresholds: Float32Array): Int32Array {
  const scaled = Array.from(thresholds, (t) => t * 2 ** 30)
  return Int32Array.from({ length: 33 }, (_, bin) => {
    const low = (bin - 16) * 2 ** 26
    const high = low + 2 ** 26
    const rank = scaled.filter((t) => t < low).length
    const threshold = scaled.find((t) => t >= low && t < high) ?? high - 1
    return ((rank + 1) * 2 ** 27 - threshold - 1) | 0
  })
}

/** The codec of any codebook for float32, one comparison per threshold. */
export function blockEncoder({ thresholds, codeOfRank }: Codebook): EncodeBlocks {
  return (source, blockSize, codes, absmax) => {
    const absmaxBits = new Int32Array(absmax.buffer, absmax.byteOffset, absmax.length)
    const bits = new Int32Array(source.buffer, source.byteOffset, source.length)
    const length = source.length - (source.length % blockSize)
    for (let start = 0, block = 0; start < length; start += blockSize, block++) {
      const max = maxMagnitude(bits, start, start + blockSize)
      if (max >= infinityBits) return start
      absmaxBits[block] = max
      const scale = reciprocal(absmax[block])
      for (let i = start, o = start >> 1; i < start + blockSize; i += 2, o++) {
        const high = rankOf(thresholds, Math.fround(source[i] * scale))
        const low = rankOf(thresholds, Math.fround(source[i + 1] * scale))
        codes[o] = (codeOfRank[high] << 4) | codeOfRank[low]
      }
    }
    return -1
  }
}

/**
 * The last, shorter block: as bitsandbytes does on the CPU, its absmax is stored as 1e-38 at least and values are
 * divided by it; the padding of an odd count is a zero. Returns false where a value is not finite.
 */
export function encodeTail(
  source: Float32Array,
  { thresholds, codeOfRank }: Codebook,
  codes: Uint8Array,
  absmax: Float32Array,
): boolean {
  let max = TINY_ABSMAX
  for (const value of source) {
    if (!Number.isFinite(value)) return false
    max = Math.max(max, Math.abs(value))
  }
  absmax[0] = max
  const code = (i: number): number =>
    codeOfRank[rankOf(thresholds, i < source.length ? Math.fround(source[i] / max) : 0)]
  for (let o = 0; o < codes.length; o++) codes[o] = (code(2 * o) << 4) | code(2 * o + 1)
  return true
}

/**
 * Largest magnitude, as float32 bits: for magnitudes the order of the bits is the order of the values, NaN above
 * infinity. `m += d & ~(d >> 31)` with d = x - m is max(m, x) without a branch; two chains run side by side.
 */
function maxMagnitude(bits: Int32Array, start: number, end: number): number {
  let even = 0
  let odd = 0
  for (let i = start; i < end; i += 2) {
    let d = (bits[i] & 0x7fffffff) - even
    even += d & ~(d >> 31)
    d = (bits[i + 1] & 0x7fffffff) - odd
    odd += d & ~(d >> 31)
  }
  return Math.max(even, odd)
}
