/** Words kept with their tokens: above it the table starts anew. */
const MAX_WORDS = 1 << 18
/** Longer words are rare, and most often unique. UTF-16 units; with byte fallback up to three tokens each. */
export const MAX_WORD_LENGTH = 64
const FIRST_WORDS = 1 << 12
/** A word's record: its hash, where its characters and its tokens begin, and how many of both there are. */
const RECORD = 4

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
  private records = new Int32Array(FIRST_WORDS * RECORD)
  private chars = new Uint16Array(FIRST_WORDS * 16)
  private charCount = 0
  private ids = new Int32Array(FIRST_WORDS * 4)
  private idCount = 0
  /** Twice as many slots as words; one more than a word's number, 0 where empty. */
  private slots = new Uint32Array(FIRST_WORDS * 2)

  /**
   * Writes the tokens of the word units[start, end) to `out` from `at` on. Returns the position after them, or -1 where the
   * word is not known.
   */
  copyIds(units: Uint16Array, start: number, end: number, hash: number, out: Int32Array, at: number): number {
    const { records, slots } = this
    const mask = slots.length - 1
    for (let slot = hash & mask; slots[slot] > 0; slot = (slot + 1) & mask) {
      const record = (slots[slot] - 1) * RECORD
      if (records[record] !== hash || !this.isAt(record, units, start, end)) continue
      const first = records[record + 2]
      const count = records[record + 3] >>> 8
      for (let i = 0; i < count; i++) out[at + i] = this.ids[first + i]
      return at + count
    }
    return -1
  }

  add(word: string, hash: number, ids: readonly number[]): void {
    if (this.count === MAX_WORDS) this.clear()
    this.makeRoom(word.length, ids.length)
    this.records.set([hash, this.charCount, this.idCount, word.length | (ids.length << 8)], this.count * RECORD)
    for (let i = 0; i < word.length; i++) this.chars[this.charCount++] = word.charCodeAt(i)
    for (const id of ids) this.ids[this.idCount++] = id
    this.link(this.count++)
  }

  private isAt(record: number, units: Uint16Array, start: number, end: number): boolean {
    const length = end - start
    if ((this.records[record + 3] & 0xff) !== length) return false
    const from = this.records[record + 1]
    for (let i = 0; i < length; i++) if (this.chars[from + i] !== units[start + i]) return false
    return true
  }

  private link(word: number): void {
    const mask = this.slots.length - 1
    let slot = this.records[word * RECORD] & mask
    while (this.slots[slot] > 0) slot = (slot + 1) & mask
    this.slots[slot] = word + 1
  }

  private makeRoom(characters: number, tokens: number): void {
    if (this.charCount + characters > this.chars.length) this.chars = doubled(this.chars)
    if (this.idCount + tokens > this.ids.length) this.ids = doubled(this.ids)
    if (this.count * RECORD < this.records.length) return
    this.records = doubled(this.records)
    this.slots = new Uint32Array(this.slots.length * 2)
    for (let word = 0; word < this.count; word++) this.link(word)
  }

  private clear(): void {
    this.count = this.charCount = this.idCount = 0
    this.slots.fill(0)
  }
}

function doubled<T extends Uint16Array | Int32Array>(array: T): T {
  const larger = new (array.constructor as new (length: number) => T)(array.length * 2)
  larger.set(array)
  return larger
}
