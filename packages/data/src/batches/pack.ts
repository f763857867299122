import { DataError } from '../errors.js'

/**
 * Puts rows into bins of `capacity` tokens by best fit, longest first: each row goes into the bin with the least room that
 * it still fits into (TRL's "bfd" packing). Every row is in exactly one bin, whole.
 *
 * The result depends on the lengths only: rows of equal length keep their order, bins are in the order in which they were
 * opened, and rows in a bin in the order in which they were put there.
 *
 * @param lengths tokens of each row.
 * @returns the indices of the rows of each bin.
 * @throws DataError MIRASTRAL_DATA_OPTION where a row is longer than a bin.
 */
export function pack(lengths: ArrayLike<number>, capacity: number): Int32Array[] {
  const order = Array.from({ length: lengths.length }, (_, i) => i).sort((a, b) => lengths[b] - lengths[a] || a - b)
  if (order.length > 0 && lengths[order[0]] > capacity) {
    throw new DataError(
      'MIRASTRAL_DATA_OPTION',
      `pack: a row must fit a bin of ${capacity} tokens, got ${lengths[order[0]]}; truncate when tokenizing (maxLength)`,
    )
  }
  const bins: number[][] = []
  const rooms = new RoomTree(capacity)
  for (const row of order) {
    const room = rooms.smallestAtLeast(lengths[row])
    const bin = room < 0 ? bins.push([]) - 1 : rooms.take(room)
    bins[bin].push(row)
    rooms.put((room < 0 ? capacity : room) - lengths[row], bin)
  }
  return bins.map((bin) => Int32Array.from(bin))
}

/** Bins by the room they have left, and a tree over the rooms that finds the next one that is not empty. */
class RoomTree {
  private readonly size: number
  /** Nodes of a binary tree: 1 where any room below has a bin. The leaf of room r is at size + r. */
  private readonly any: Uint8Array
  private readonly bins: number[][]

  constructor(capacity: number) {
    this.size = 2 ** Math.ceil(Math.log2(capacity + 1))
    this.any = new Uint8Array(this.size * 2)
    this.bins = Array.from({ length: capacity + 1 }, () => [])
  }

  put(room: number, bin: number): void {
    this.bins[room].push(bin)
    for (let node = this.size + room; node > 0 && this.any[node] === 0; node >>= 1) this.any[node] = 1
  }

  take(room: number): number {
    const bin = this.bins[room].pop()
    if (bin === undefined) throw new Error('internal: pack: a bin was taken from an empty room')
    for (let node = this.size + room; node > 0; node >>= 1) {
      const isLeaf = node >= this.size
      const full = isLeaf ? this.bins[room].length > 0 : this.any[node * 2] === 1 || this.any[node * 2 + 1] === 1
      this.any[node] = full ? 1 : 0
    }
    return bin
  }

  /** The smallest room of at least this many tokens that has a bin, or -1. */
  smallestAtLeast(tokens: number): number {
    let node = this.size + tokens
    if (this.any[node] === 1) return tokens
    // Up until there is something on the right, then down along the left.
    while (node > 1 && (node % 2 === 1 || this.any[node + 1] === 0)) node >>= 1
    if (node <= 1) return -1
    node++
    while (node < this.size) node = this.any[node * 2] === 1 ? node * 2 : node * 2 + 1
    return node - this.size
  }
}
