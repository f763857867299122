import type { DType } from './ir/tensor-type.js'

const word = new Float32Array(1)
const bits = new Uint32Array(word.buffer)

/** The bfloat16 bits nearest to a float32 value, ties to even; NaN stays NaN. */
export function bf16Bits(x: number): number {
  word[0] = x
  const b = bits[0]
  if ((b & 0x7fffffff) > 0x7f800000) return (b >>> 16) | 0x40
  return (b + 0x7fff + ((b >>> 16) & 1)) >>> 16
}

/** The value of bfloat16 bits. */
export function bf16Value(b: number): number {
  bits[0] = b << 16
  return word[0]
}

/** The IEEE half-precision bits nearest to a float32 value, ties to even; overflow becomes infinity. */
export function f16Bits(x: number): number {
  word[0] = x
  const b = bits[0]
  const sign = (b >>> 16) & 0x8000
  const magnitude = b & 0x7fffffff
  if (magnitude > 0x7f800000) return sign | 0x7e00
  if (magnitude >= 0x477ff000) return sign | 0x7c00
  if (magnitude < 0x38800000) {
    // Subnormal half: the value in units of 2^-24, rounded to nearest even.
    bits[0] = magnitude
    return sign | roundHalfToEven(word[0] * 2 ** 24)
  }
  const rebased = magnitude - 0x38000000
  return sign | ((rebased + 0xfff + ((rebased >>> 13) & 1)) >>> 13)
}

/** The value of IEEE half-precision bits. */
export function f16Value(h: number): number {
  const sign = h & 0x8000 ? -1 : 1
  const exponent = (h >>> 10) & 0x1f
  const mantissa = h & 0x3ff
  if (exponent === 0) return sign * mantissa * 2 ** -24
  if (exponent === 0x1f) return mantissa ? NaN : sign * Infinity
  return sign * (1 + mantissa / 1024) * 2 ** (exponent - 15)
}

function roundHalfToEven(x: number): number {
  const floor = Math.floor(x)
  const rest = x - floor
  if (rest !== 0.5) return rest < 0.5 ? floor : floor + 1
  return floor % 2 === 0 ? floor : floor + 1
}

/** Rounds float64 values to what a dtype can hold; `f32` keeps float64, for the reference is the more exact one. */
export function roundToDtype(x: Float64Array, dtype: DType): Float64Array {
  switch (dtype) {
    case 'f16':
      return x.map((v) => f16Value(f16Bits(v)))
    case 'bf16':
      return x.map((v) => bf16Value(bf16Bits(v)))
    case 'i32':
    case 'u8':
      return x.map(Math.trunc)
    case 'bool':
      return x.map((v) => (v === 0 ? 0 : 1))
    case 'f32':
    case 'nf4':
      return x
  }
}
