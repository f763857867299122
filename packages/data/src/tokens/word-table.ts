/** Words kept with their tokens: above it the table starts anew. */
const MAX_WORDS = 1 << 18
/** Longer words are rare, and most often unique. UTF-16 units; with byte fallback up to three tokens each. */
export const MAX_WORD_LENGTH = 64
const FIRST_WORDS = 1 << 12

/** FNV-1a, one character further. */
export const HASH_START = 0x811c9dc5
export function hashNext(hash: number, code: number): number {
  return Math.imul(hash ^ code, 0x01000193)
}

/**
 * Words and their token ids. Words are looked up where they stand in the UTF-16 units of a text, by a hash that is computed
 * while the text is cut: no string is made for a word that is known.
 *
 * An entry is one run of integers, so that finding a word takes two places of memory: its hash; its numbers of units and of
 * tokens; its units, two to an integer; its tokens.
 */
export class WordTable {
  private count = 0
  private entries = new Int32Array(FIRST_WORDS * 12)
  private used = 0
  /** Twice as many slots as words at least; one more than where a word's entry begins, 0 where empty. */
  private slots = new Uint32Array(FIRST_WORDS * 2)

  /**
   * Writes the tokens of the word units[start, end) to `out` from `at` on. Returns the position after them, or -1 where the
   * word is not known.
   */
  copyIds(units: Uint16Array, start: number, end: number, hash: number, out: Int32Array, at: number): number {
    const { entries, slots } = this
    const mask = slots.length - 1
    for (let slot = hash & mask; slots[slot] > 0; slot = (slot + 1) & mask) {
      const entry = slots[slot] - 1
      if (entries[entry] !== hash || !this.isAt(entry, units, start, end)) continue
      const sizes = entries[entry + 1]
      const first = entry + 2 + (((sizes & 0xff) + 1) >> 1)
      const count = sizes >>> 8
      for (let i = 0; i < count; i++) out[at + i] = entries[first + i]
      return at + count
    }
    return -1
  }

  add(word: string, hash: number, ids: readonly number[]): void {
    if (this.count === MAX_WORDS) this.clear()
    const { length } = word
    const size = 2 + ((length + 1) >> 1) + ids.length
    this.makeRoom(size)
    const entry = this.used
    this.entries[entry] = hash
    this.entries[entry + 1] = length | (ids.length << 8)
    for (let i = 0; i < length; i += 2) {
      this.entries[entry + 2 + (i >> 1)] = word.charCodeAt(i) | (i + 1 < length ? word.charCodeAt(i + 1) << 16 : 0)
    }
    this.entries.set(ids, entry + size - ids.length)
    this.used += size
    this.count++
    this.link(entry)
  }

  private isAt(entry: number, units: Uint16Array, start: number, end: number): boolean {
    const { entries } = this
    const length = end - start
    if ((entries[entry + 1] & 0xff) !== length) return false
    for (let i = 0, at = entry + 2; i < length; i += 2, at++) {
      const pair = units[start + i] | (i + 1 < length ? units[start + i + 1] << 16 : 0)
      if (entries[at] !== pair) return false
    }
    return true
  }

  private link(entry: number): void {
    const mask = this.slots.length - 1
    let slot = this.entries[entry] & mask
    while (this.slots[slot] > 0) slot = (slot + 1) & mask
    this.slots[slot] = entry + 1
  }

  private makeRoom(size: number): void {
    if (this.used + size > this.entries.length) {
      const larger = new Int32Array(this.entries.length * 2)
      larger.set(this.entries)
      this.entries = larger
    }
    if (this.count * 2 < this.slots.length) return
    const old = this.slots
    this.slots = new Uint32Array(old.length * 2)
    for (const begin of old) if (begin > 0) this.link(begin - 1)
  }

  private clear(): void {
    this.count = this.used = 0
    this.slots.fill(0)
  }
}
