/** A list of 32-bit unsigned numbers of which there may be millions. */
export class GrowableUint32 {
  private items = new Uint32Array(1024)
  private count = 0

  get length(): number {
    return this.count
  }

  push(value: number): void {
    if (this.count === this.items.length) {
      const larger = new Uint32Array(this.items.length * 2)
      larger.set(this.items)
      this.items = larger
    }
    this.items[this.count++] = value
  }

  at(index: number): number {
    return this.items[index]
  }

  truncate(length: number): void {
    this.count = Math.min(this.count, length)
  }

  /** The sum of the items from an index on. */
  sumFrom(start: number): number {
    let sum = 0
    for (let i = start; i < this.count; i++) sum += this.items[i]
    return sum
  }
}
