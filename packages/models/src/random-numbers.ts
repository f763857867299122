import { createHash } from 'node:crypto'

/**
 * Random numbers that depend on a text alone, the same on every machine: Chris Doty-Humphrey's sfc32 generator, seeded
 * by the SHA-256 of the text.
 */
export class RandomNumbers {
  private a: number
  private b: number
  private c: number
  private counter: number

  constructor(seed: string) {
    const words = createHash('sha256').update(seed).digest()
    this.a = words.readInt32LE(0)
    this.b = words.readInt32LE(4)
    this.c = words.readInt32LE(8)
    this.counter = words.readInt32LE(12)
  }

  /** 32 random bits as a signed integer. */
  int32(): number {
    const t = (((this.a + this.b) | 0) + this.counter) | 0
    this.counter = (this.counter + 1) | 0
    this.a = this.b ^ (this.b >>> 9)
    this.b = (this.c + (this.c << 3)) | 0
    this.c = (((this.c << 21) | (this.c >>> 11)) + t) | 0
    return t
  }

  /** Uniform in the open interval (0, 1). */
  uniform(): number {
    return ((this.int32() >>> 0) + 0.5) / 4294967296
  }

  /** Fills an array with independent normal numbers of mean 0 (Box and Muller 1958). */
  fillNormal(out: Float32Array, std: number): void {
    for (let i = 0; i < out.length; i += 2) {
      const radius = std * Math.sqrt(-2 * Math.log(this.uniform()))
      const angle = 2 * Math.PI * this.uniform()
      out[i] = radius * Math.cos(angle)
      if (i + 1 < out.length) out[i + 1] = radius * Math.sin(angle)
    }
  }

  /** Fills whole words with random bits. */
  fillBits(out: Int32Array): void {
    for (let i = 0; i < out.length; i++) out[i] = this.int32()
  }
}
