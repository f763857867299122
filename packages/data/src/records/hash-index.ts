export const HASH_BYTES = 16
const FIRST_CAPACITY = 1024

/** A set of 128-bit content hashes in the order in which they were added: an open-addressing table of flat arrays. */
export class HashIndex {
  private count = 0
  private capacity = FIRST_CAPACITY
  private hashes = new Uint8Array(FIRST_CAPACITY * HASH_BYTES)
  /** Twice as many slots as hashes at most; one more than the index of a hash, 0 where empty. */
  private slots = new Uint32Array(FIRST_CAPACITY * 2)

  get length(): number {
    return this.count
  }

  has(hash: Uint8Array): boolean {
    return this.slots[this.slotOf(hash)] > 0
  }

  add(hash: Uint8Array): void {
    if (this.count === this.capacity) this.grow()
    this.hashes.set(hash, this.count * HASH_BYTES)
    const slot = this.slotOf(hash)
    this.count++
    if (this.slots[slot] === 0) this.slots[slot] = this.count
  }

  /** The hashes from an index on, one after another. */
  from(index: number): Uint8Array {
    return this.hashes.slice(index * HASH_BYTES, this.count * HASH_BYTES)
  }

  /** Forgets the hashes from `length` on. */
  truncate(length: number): void {
    if (length >= this.count) return
    this.count = length
    this.fillSlots()
  }

  private at(index: number): Uint8Array {
    return this.hashes.subarray(index * HASH_BYTES, (index + 1) * HASH_BYTES)
  }

  /** Where a hash is, or the empty slot where it would be. */
  private slotOf(hash: Uint8Array): number {
    let slot = ((hash[0] << 24) | (hash[1] << 16) | (hash[2] << 8) | hash[3]) >>> 0
    for (slot %= this.slots.length; this.slots[slot] > 0; slot = (slot + 1) % this.slots.length) {
      if (isEqual(this.at(this.slots[slot] - 1), hash)) break
    }
    return slot
  }

  private grow(): void {
    this.capacity *= 2
    const hashes = new Uint8Array(this.capacity * HASH_BYTES)
    hashes.set(this.hashes)
    this.hashes = hashes
    this.slots = new Uint32Array(this.capacity * 2)
    this.fillSlots()
  }

  private fillSlots(): void {
    this.slots.fill(0)
    for (let index = 0; index < this.count; index++) {
      const slot = this.slotOf(this.at(index))
      if (this.slots[slot] === 0) this.slots[slot] = index + 1
    }
  }
}

function isEqual(a: Uint8Array, b: Uint8Array): boolean {
  for (let i = 0; i < HASH_BYTES; i++) if (a[i] !== b[i]) return false
  return true
}
