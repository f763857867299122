import { mix32 } from '../ops/random.js'

/** A seeded generator for tests: uniform in [0, 1) and standard normal. */
export class TestRandom {
  private counter = 0
  private readonly key: number

  constructor(seed: string) {
    this.key = [...seed].reduce((h, c) => mix32(h ^ c.charCodeAt(0)), 0x5eed)
  }

  uniform(): number {
    this.counter++
    const high = mix32(this.key ^ mix32(this.counter * 2)) >>> 5
    const low = mix32(this.key ^ mix32(this.counter * 2 + 1)) >>> 6
    return (high * 2 ** 26 + low) / 2 ** 53
  }

  /** Box-Muller. */
  normal(): number {
    return Math.sqrt(-2 * Math.log(1 - this.uniform())) * Math.cos(2 * Math.PI * this.uniform())
  }
}
