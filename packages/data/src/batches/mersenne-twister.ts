const N = 624
const M = 397

/**
 * The 32-bit Mersenne Twister of PyTorch's CPU generator: MT19937 with `init_genrand(seed)` and its raw 32-bit outputs
 * (Matsumoto and Nishimura, "Mersenne Twister", ACM TOMACS 1998).
 */
export class MersenneTwister {
  private readonly state = new Uint32Array(N)
  private index = N

  /** `seed` is used modulo 2^32, as PyTorch does for this generator. */
  constructor(seed: number) {
    const state = this.state
    state[0] = seed >>> 0
    for (let i = 1; i < N; i++) {
      const previous = state[i - 1] ^ (state[i - 1] >>> 30)
      state[i] = Math.imul(1812433253, previous) + i
    }
  }

  /** The next integer in [0, 2^32). */
  nextUint32(): number {
    if (this.index === N) this.twist()
    let y = this.state[this.index++]
    y ^= y >>> 11
    y ^= (y << 7) & 0x9d2c5680
    y ^= (y << 15) & 0xefc60000
    y ^= y >>> 18
    return y >>> 0
  }

  private twist(): void {
    const state = this.state
    for (let i = 0; i < N; i++) {
      const y = (state[i] & 0x80000000) | (state[(i + 1) % N] & 0x7fffffff)
      state[i] = state[(i + M) % N] ^ (y >>> 1) ^ (y & 1 ? 0x9908b0df : 0)
    }
    this.index = 0
  }
}

/**
 * `torch.randperm(n)` of a CPU generator seeded with `seed`: for i < n-1, swap element i with element i + u32 mod (n-i).
 * The Hugging Face Trainer shuffles epoch e with seed + e (accelerate's SeedableRandomSampler).
 */
export function randperm(n: number, seed: number): Int32Array {
  const random = new MersenneTwister(seed)
  const order = Int32Array.from({ length: n }, (_, i) => i)
  for (let i = 0; i < n - 1; i++) {
    const j = i + (random.nextUint32() % (n - i))
    const kept = order[i]
    order[i] = order[j]
    order[j] = kept
  }
  return order
}
