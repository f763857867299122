import { DataError } from '../errors.js'
import { PagedMemory } from '../rows/paged-memory.js'
import type { PagedArray } from '../rows/paged-memory.js'
import { SIGNATURE_BYTES, mixed, similarity } from './min-hash.js'

/** With 16 bands of 4 bins per side, a pair of similarity 0.8 shares a band with a probability of 0.95, one of 0.9 always. */
const BANDS = 16
const BINS_PER_BAND = SIGNATURE_BYTES / 2 / BANDS
const NEAR = 0.8
/** Slots of a band. */
const FIRST_SLOTS = 4096
/** A slot holds one more than an index in these bits, and above them six bits of the band's hash. */
const INDEX_BITS = 26
const INDEX_MASK = 2 ** INDEX_BITS - 1

/**
 * Finds near-duplicates among signatures by locality-sensitive hashing: signatures that agree in a band are compared. A
 * table of open addressing per band, in paged memory.
 */
export class NearIndex {
  private readonly memory: PagedMemory
  private readonly signatures: PagedArray
  /** The tables of all bands, one after another. */
  private slots: PagedArray
  private slotCount: number
  private count = 0

  /** @param expected about how many signatures will be added; a table that need not grow is filled once. */
  constructor(memory = new PagedMemory(), expected = 0) {
    this.memory = memory
    this.slotCount = Math.max(FIRST_SLOTS, 2 ** Math.ceil(Math.log2(2 * expected + 1)))
    this.signatures = memory.createArray()
    this.slots = memory.createArray()
  }

  get length(): number {
    return this.count
  }

  /** True where a signature as good as equal has been added. */
  has(signature: Uint8Array): boolean {
    for (let band = 0; band < BANDS; band++) {
      const hash = bandHash(signature, band)
      for (let slot = this.firstSlot(band, hash); ; slot = this.slotAfter(slot, band)) {
        const found = this.slots.word(slot)
        if (found === 0) break
        if (found >>> INDEX_BITS !== hash >>> INDEX_BITS) continue
        if (similarity(this.at((found & INDEX_MASK) - 1), signature) >= NEAR) return true
      }
    }
    return false
  }

  /** @throws DataError MIRASTRAL_DATA_OPTION where there are more signatures than the table can tell apart. */
  add(signature: Uint8Array): void {
    if (this.count >= INDEX_MASK) {
      throw new DataError(
        'MIRASTRAL_DATA_OPTION',
        `data: near-duplicates are found among at most ${INDEX_MASK} conversations; set duplicates to exact`,
      )
    }
    if (2 * this.count >= this.slotCount) this.grow()
    this.signatures.set(this.count * SIGNATURE_BYTES, signature)
    this.count++
    this.link(signature, this.count)
  }

  /** The signature at an index, to be looked at before the index is used again. */
  at(index: number): Uint8Array {
    return this.signatures.view(index * SIGNATURE_BYTES, SIGNATURE_BYTES)
  }

  /** Forgets the signatures from `length` on: newest first, so that each leaves the tables as it found them. */
  truncate(length: number): void {
    for (; this.count > length; this.count--) {
      const signature = this.at(this.count - 1).slice()
      if (isAbsent(signature)) continue
      for (let band = 0; band < BANDS; band++) {
        let slot = this.firstSlot(band, bandHash(signature, band))
        while ((this.slots.word(slot) & INDEX_MASK) !== this.count) slot = this.slotAfter(slot, band)
        this.slots.setWord(slot, 0)
      }
    }
  }

  /** Writes what stands for a signature into the first empty slot of each band. */
  private link(signature: Uint8Array, value: number): void {
    if (isAbsent(signature)) return
    for (let band = 0; band < BANDS; band++) {
      const hash = bandHash(signature, band)
      let slot = this.firstSlot(band, hash)
      while (this.slots.word(slot) !== 0) slot = this.slotAfter(slot, band)
      this.slots.setWord(slot, ((hash & ~INDEX_MASK) | value) >>> 0)
    }
  }

  private firstSlot(band: number, hash: number): number {
    return band * this.slotCount + (hash % this.slotCount)
  }

  private slotAfter(slot: number, band: number): number {
    return slot + 1 === (band + 1) * this.slotCount ? band * this.slotCount : slot + 1
  }

  private grow(): void {
    this.slotCount *= 2
    this.slots.release()
    this.slots = this.memory.createArray()
    for (let index = 0; index < this.count; index++) this.link(this.at(index).slice(), index + 1)
  }
}

function bandHash(signature: Uint8Array, band: number): number {
  let hash = band
  const start = band * BINS_PER_BAND
  for (let i = start; i < start + BINS_PER_BAND; i++) {
    hash = mixed(Math.imul(hash, 31) + ((signature[i] << 8) | signature[SIGNATURE_BYTES / 2 + i]))
  }
  return hash
}

/** Runs that look for exact duplicates only leave zeros in the ledger. */
function isAbsent(signature: Uint8Array): boolean {
  return signature.every((byte) => byte === 0)
}
