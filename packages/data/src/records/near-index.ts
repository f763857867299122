import { SIGNATURE_BYTES, mixed, similarity } from './min-hash.js'

/** With 16 bands of 4 bins per side, a pair of similarity 0.8 shares a band with a probability of 0.95, one of 0.9 always. */
const BANDS = 16
const BINS_PER_BAND = SIGNATURE_BYTES / 2 / BANDS
const NEAR = 0.8
const FIRST_CAPACITY = 1024

/**
 * Finds near-duplicates among signatures by locality-sensitive hashing: signatures that agree in a band are compared. Flat
 * arrays of about 0.4 KB per conversation.
 */
export class NearIndex {
  private count = 0
  private capacity = FIRST_CAPACITY
  private signatures = new Uint8Array(FIRST_CAPACITY * SIGNATURE_BYTES)
  /** For each band of each signature, the one added before it with the same slot; -1 ends the chain. */
  private before = new Int32Array(FIRST_CAPACITY * BANDS)
  /** Per slot of the hash table, the band entry that was added last. */
  private heads = new Int32Array(FIRST_CAPACITY * BANDS).fill(-1)

  get length(): number {
    return this.count
  }

  /** True where a signature as good as equal has been added. */
  has(signature: Uint8Array): boolean {
    for (let band = 0; band < BANDS; band++) {
      for (let entry = this.heads[this.slotOf(signature, band)]; entry >= 0; entry = this.before[entry]) {
        if (similarity(this.at(Math.floor(entry / BANDS)), signature) >= NEAR) return true
      }
    }
    return false
  }

  add(signature: Uint8Array): void {
    if (this.count === this.capacity) this.grow()
    this.signatures.set(signature, this.count * SIGNATURE_BYTES)
    this.link(this.count++)
  }

  /** The signatures from an index on, one after another. */
  from(index: number): Uint8Array {
    return this.signatures.slice(index * SIGNATURE_BYTES, this.count * SIGNATURE_BYTES)
  }

  /** Forgets the signatures from `length` on. */
  truncate(length: number): void {
    if (length >= this.count) return
    this.count = length
    this.relink()
  }

  private at(index: number): Uint8Array {
    return this.signatures.subarray(index * SIGNATURE_BYTES, (index + 1) * SIGNATURE_BYTES)
  }

  private slotOf(signature: Uint8Array, band: number): number {
    let hash = band
    const start = band * BINS_PER_BAND
    for (let i = start; i < start + BINS_PER_BAND; i++) {
      hash = mixed(Math.imul(hash, 31) + ((signature[i] << 8) | signature[SIGNATURE_BYTES / 2 + i]))
    }
    return hash % this.heads.length
  }

  private link(index: number): void {
    for (let band = 0; band < BANDS; band++) {
      const slot = this.slotOf(this.at(index), band)
      this.before[index * BANDS + band] = this.heads[slot]
      this.heads[slot] = index * BANDS + band
    }
  }

  private grow(): void {
    this.capacity *= 2
    const signatures = new Uint8Array(this.capacity * SIGNATURE_BYTES)
    signatures.set(this.signatures)
    this.signatures = signatures
    this.before = new Int32Array(this.capacity * BANDS)
    this.heads = new Int32Array(this.capacity * BANDS)
    this.relink()
  }

  private relink(): void {
    this.heads.fill(-1)
    for (let index = 0; index < this.count; index++) this.link(index)
  }
}
