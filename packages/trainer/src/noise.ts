/** The finalizer of MurmurHash3 (A. Appleby): every input bit reaches every output bit. */
function mix(x: number): number {
  let h = x >>> 0
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b)
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35)
  return (h ^ (h >>> 16)) >>> 0
}

/** `count` numbers uniform in [-1, 1), a function of the seed, the stream and the position alone. */
export function uniformNoise(count: number, seed: number, stream: number): Float32Array {
  const key = mix(mix(seed) + stream)
  const noise = new Float32Array(count)
  for (let i = 0; i < count; i++) noise[i] = mix(key ^ Math.imul(i, 0x9e3779b9)) / 2 ** 31 - 1
  return noise
}
