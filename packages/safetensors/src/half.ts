/**
 * bfloat16 and float16 bits to and from float32, whole arrays at a time. Exact one way, rounded to nearest even the
 * other. `out` avoids an allocation: same length, any contents.
 */

function bitsOf(data: Float32Array): Uint32Array {
  return new Uint32Array(data.buffer, data.byteOffset, data.length)
}

/** bfloat16 bits to float32, exact. */
export function bf16ToF32(data: Uint16Array, out = new Float32Array(data.length)): Float32Array {
  const bits = bitsOf(out)
  for (let i = 0; i < data.length; i++) bits[i] = data[i] << 16
  return out
}

/** float16 bits to float32, exact, subnormals, infinities and NaN payloads included. */
export function f16ToF32(data: Uint16Array, out = new Float32Array(data.length)): Float32Array {
  const bits = bitsOf(out)
  for (let i = 0; i < data.length; i++) {
    const half = data[i]
    const magnitude = half & 0x7fff
    const sign = (half & 0x8000) << 16
    if (magnitude >= 0x400 && magnitude < 0x7c00) bits[i] = sign | ((magnitude << 13) + 0x38000000)
    else if (magnitude >= 0x7c00) bits[i] = sign | 0x7f800000 | (magnitude << 13)
    else out[i] = sign === 0 ? magnitude * 2 ** -24 : magnitude * -(2 ** -24)
  }
  return out
}

/** float32 to bfloat16 bits, round to nearest even; every NaN becomes 0x7fc0, as in PyTorch. */
export function f32ToBf16(data: Float32Array, out = new Uint16Array(data.length)): Uint16Array {
  const bits = bitsOf(data)
  for (let i = 0; i < data.length; i++) {
    const b = bits[i]
    out[i] = (b & 0x7fffffff) > 0x7f800000 ? 0x7fc0 : (b + 0x7fff + ((b >>> 16) & 1)) >>> 16
  }
  return out
}

/** float32 to float16 bits, round to nearest even; 65520 and more become infinity, every NaN 0x7e00 with its sign. */
export function f32ToF16(data: Float32Array, out = new Uint16Array(data.length)): Uint16Array {
  const bits = bitsOf(data)
  const scratch = new Float32Array(1)
  const scratchBits = bitsOf(scratch)
  for (let i = 0; i < data.length; i++) {
    const sign = (bits[i] >>> 16) & 0x8000
    const b = bits[i] & 0x7fffffff
    let half: number
    if (b >= 0x47800000) {
      half = b > 0x7f800000 ? 0x7e00 : 0x7c00
    } else if (b < 0x38800000) {
      // Below 2^-14 the result is a multiple of 2^-24, which is the spacing of floats in [0.5, 1): the store rounds.
      scratch[0] = Math.abs(data[i]) + 0.5
      half = scratchBits[0] - 0x3f000000
    } else {
      half = (b - 0x38000000 + 0xfff + ((b >>> 13) & 1)) >>> 13
    }
    out[i] = sign | half
  }
  return out
}
