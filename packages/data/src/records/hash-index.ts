import { PagedMemory } from '../rows/paged-memory.js'
import type { PagedArray } from '../rows/paged-memory.js'

export const HASH_BYTES = 16
const FIRST_SLOTS = 4096

/** A set of 128-bit content hashes in the order in which they were added: an open-addressing table in paged memory. */
export class HashIndex {
  private readonly memory: PagedMemory
  private readonly hashes: PagedArray
  /** One more than the index of a hash, 0 where empty. */
  private slots: PagedArray
  private slotCount = FIRST_SLOTS
  private count = 0

  constructor(memory = new PagedMemory()) {
    this.memory = memory
    this.hashes = memory.createArray()
    this.slots = memory.createArray()
  }

  get length(): number {
    return this.count
  }

  has(hash: Uint8Array): boolean {
    return this.slots.word(this.slotOf(hash)) > 0
  }

  add(hash: Uint8Array): void {
    if (2 * this.count >= this.slotCount) this.grow()
    this.hashes.set(this.count * HASH_BYTES, hash)
    this.link(this.count++)
  }

  /** The hash at an index, to be looked at before the index is used again. */
  at(index: number): Uint8Array {
    return this.hashes.view(index * HASH_BYTES, HASH_BYTES)
  }

  /** Forgets the hashes from `length` on: newest first, so that each leaves the table as it found it. */
  truncate(length: number): void {
    while (this.count > length) {
      this.count--
      const slot = this.slotOf(this.at(this.count).slice())
      if (this.slots.word(slot) === this.count + 1) this.slots.setWord(slot, 0)
    }
  }

  private link(index: number): void {
    const slot = this.slotOf(this.at(index).slice())
    if (this.slots.word(slot) === 0) this.slots.setWord(slot, index + 1)
  }

  /** Where a hash is, or the empty slot where it would be. */
  private slotOf(hash: Uint8Array): number {
    let slot = ((hash[0] << 24) | (hash[1] << 16) | (hash[2] << 8) | hash[3]) >>> 0
    slot %= this.slotCount
    for (let found = this.slots.word(slot); found > 0; found = this.slots.word(slot)) {
      if (isEqual(this.at(found - 1), hash)) break
      slot = (slot + 1) % this.slotCount
    }
    return slot
  }

  private grow(): void {
    this.slotCount *= 4
    this.slots.release()
    this.slots = this.memory.createArray()
    for (let index = 0; index < this.count; index++) this.link(index)
  }
}

function isEqual(a: Uint8Array, b: Uint8Array): boolean {
  for (let i = 0; i < HASH_BYTES; i++) if (a[i] !== b[i]) return false
  return true
}
