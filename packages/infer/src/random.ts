/** A source of numbers in [0, 1), each a double with 53 random bits. */
export interface RandomSource {
  next(): number
}

/** The SplitMix64 step (Steele, Lea, Flood 2014), used to spread a seed over the state. */
function splitMix64(state: bigint): { state: bigint; value: bigint } {
  const next = BigInt.asUintN(64, state + 0x9e3779b97f4a7c15n)
  let z = next
  z = BigInt.asUintN(64, (z ^ (z >> 30n)) * 0xbf58476d1ce4e5b9n)
  z = BigInt.asUintN(64, (z ^ (z >> 27n)) * 0x94d049bb133111ebn)
  return { state: next, value: z ^ (z >> 31n) }
}

const rotateLeft = (x: number, k: number): number => (x << k) | (x >>> (32 - k))

/** xoshiro128** 1.1 (Blackman and Vigna 2018): 32 random bits from each call. `s` is its state of four words. */
export function xoshiro128(s: Uint32Array): () => number {
  return () => {
    const result = Math.imul(rotateLeft(Math.imul(s[1], 5), 7), 9)
    const shifted = s[1] << 9
    s[2] ^= s[0]
    s[3] ^= s[1]
    s[1] ^= s[2]
    s[0] ^= s[3]
    s[2] ^= shifted
    s[3] = rotateLeft(s[3], 11)
    return result >>> 0
  }
}

/** The same seed, any safe integer, gives the same numbers on every machine. */
export function seededRandom(seed: number): RandomSource {
  const first = splitMix64(BigInt.asUintN(64, BigInt(Math.trunc(seed))))
  const second = splitMix64(first.state)
  const word = (value: bigint): number => Number(value & 0xffffffffn)
  const { value: a } = first
  const { value: b } = second
  const next32 = xoshiro128(Uint32Array.of(word(a), word(a >> 32n), word(b), word(b >> 32n)))
  return { next: () => ((next32() >>> 5) * 0x4000000 + (next32() >>> 6)) / 0x20000000000000 }
}
