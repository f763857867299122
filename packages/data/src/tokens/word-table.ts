/** Words kept with their tokens: above it the table starts anew. */
const MAX_WORDS = 1 << 18
/** Longer words are rare, and most often unique. UTF-16 units. */
export const MAX_WORD_LENGTH = 64
const FIRST_WORDS = 1 << 12

/** FNV-1a, one character further. */
export const HASH_START = 0x811c9dc5
export function hashNext(hash: number, code: number): number {
  return Math.imul(hash ^ code, 0x01000193)
}

/**
 * Words and their token ids in flat arrays. Words are looked up where they stand in the UTF-16 units of a text, by a hash that
 * is computed while the text is cut: no string is made for a word that is known.
 */
export class WordTable {
  private count = 0
  private chars = new Uint16Array(FIRST_WORDS * 16)
  private charEnds = new Uint32Array(FIRST_WORDS + 1)
  private ids = new Int32Array(FIRST_WORDS * 4)
  private idEnds = new Uint32Array(FIRST_WORDS + 1)
  private hashes = new Int32Array(FIRST_WORDS)
  /** Twice as many slots as words; one more than a word's number, 0 where empty. */
  private slots = new Uint32Array(FIRST_WORDS * 2)

  /** The number of the word units[start, end), or -1. */
  find(units: Uint16Array, start: number, end: number, hash: number): number {
    const mask = this.slots.length - 1
    for (let slot = hash & mask; this.slots[slot] > 0; slot = (slot + 1) & mask) {
      const word = this.slots[slot] - 1
      if (this.hashes[word] === hash && this.isAt(word, units, start, end)) return word
    }
    return -1
  }

  /** Appends the tokens of a word to `out`. */
  appendIds(word: number, out: number[]): void {
    const end = this.idEnds[word + 1]
    for (let i = this.idEnds[word]; i < end; i++) out.push(this.ids[i])
  }

  add(word: string, hash: number, ids: readonly number[]): void {
    if (this.count === MAX_WORDS) this.clear()
    this.makeRoom(word.length, ids.length)
    const charStart = this.charEnds[this.count]
    for (let i = 0; i < word.length; i++) this.chars[charStart + i] = word.charCodeAt(i)
    this.ids.set(ids, this.idEnds[this.count])
    this.hashes[this.count] = hash
    this.count++
    this.charEnds[this.count] = charStart + word.length
    this.idEnds[this.count] = this.idEnds[this.count - 1] + ids.length
    this.link(this.count - 1)
  }

  private isAt(word: number, units: Uint16Array, start: number, end: number): boolean {
    const from = this.charEnds[word]
    const length = end - start
    if (this.charEnds[word + 1] - from !== length) return false
    for (let i = 0; i < length; i++) if (this.chars[from + i] !== units[start + i]) return false
    return true
  }

  private link(word: number): void {
    const mask = this.slots.length - 1
    let slot = this.hashes[word] & mask
    while (this.slots[slot] > 0) slot = (slot + 1) & mask
    this.slots[slot] = word + 1
  }

  private makeRoom(characters: number, tokens: number): void {
    if (this.charEnds[this.count] + characters > this.chars.length) this.chars = doubled(this.chars)
    if (this.idEnds[this.count] + tokens > this.ids.length) this.ids = doubled(this.ids)
    if (this.count < this.hashes.length) return
    this.hashes = doubled(this.hashes)
    this.charEnds = doubled(this.charEnds)
    this.idEnds = doubled(this.idEnds)
    this.slots = new Uint32Array(this.slots.length * 2)
    for (let word = 0; word < this.count; word++) this.link(word)
  }

  private clear(): void {
    this.count = 0
    this.slots.fill(0)
  }
}

function doubled<T extends Uint16Array | Uint32Array | Int32Array>(array: T): T {
  const larger = new (array.constructor as new (length: number) => T)(array.length * 2)
  larger.set(array)
  return larger
}
