import type { PagedArray, PagedMemory } from './paged-memory.js'

/** A list of 32-bit unsigned numbers of which there may be many millions. */
export class GrowableUint32 {
  private readonly items: PagedArray
  private count = 0

  constructor(memory: PagedMemory) {
    this.items = memory.createArray()
  }

  get length(): number {
    return this.count
  }

  push(value: number): void {
    this.items.setWord(this.count++, value)
  }

  at(index: number): number {
    return this.items.word(index)
  }

  truncate(length: number): void {
    this.count = Math.min(this.count, length)
  }

  /** The sum of the items from an index on. */
  sumFrom(start: number): number {
    let sum = 0
    for (let i = start; i < this.count; i++) sum += this.at(i)
    return sum
  }
}
