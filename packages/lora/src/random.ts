/**
 * A small seeded generator (xoshiro128**, Blackman and Vigna 2018, seeded through splitmix32). The same seed and stream
 * name give the same numbers on every machine; streams of different names are independent, so that adding a layer does
 * not move the values of the others.
 */
export class Random {
  private readonly state: Uint32Array
  private spare: number | undefined

  constructor(seed: number, stream = '') {
    let mixed = (seed ^ Math.floor(seed / 2 ** 32)) >>> 0
    for (const byte of new TextEncoder().encode(stream)) mixed = Math.imul(mixed ^ byte, 0x01000193) >>> 0
    this.state = Uint32Array.from({ length: 4 }, () => {
      mixed = (mixed + 0x9e3779b9) >>> 0
      let z = mixed
      z = Math.imul(z ^ (z >>> 16), 0x85ebca6b)
      z = Math.imul(z ^ (z >>> 13), 0xc2b2ae35)
      return (z ^ (z >>> 16)) >>> 0
    })
  }

  /** A uniform 32-bit whole number. */
  nextUint32(): number {
    const s = this.state
    const [s0, s1, s2, s3] = s
    const turned = Math.imul(s1, 5)
    const result = Math.imul((turned << 7) | (turned >>> 25), 9) >>> 0
    const t = s1 << 9
    const u2 = s2 ^ s0
    const u3 = s3 ^ s1
    s[1] = s1 ^ u2
    s[0] = s0 ^ u3
    s[2] = u2 ^ t
    s[3] = (u3 << 11) | (u3 >>> 21)
    return result
  }

  /** Uniform in [0, 1), 53 bits. */
  uniform(): number {
    return ((this.nextUint32() >>> 5) * 67108864 + (this.nextUint32() >>> 6)) / 9007199254740992
  }

  /** Standard normal, by Box and Muller's polar method. */
  normal(): number {
    if (this.spare !== undefined) {
      const value = this.spare
      this.spare = undefined
      return value
    }
    for (;;) {
      const u = 2 * this.uniform() - 1
      const v = 2 * this.uniform() - 1
      const s = u * u + v * v
      if (s > 0 && s < 1) {
        const factor = Math.sqrt((-2 * Math.log(s)) / s)
        this.spare = v * factor
        return u * factor
      }
    }
  }
}
