import { tokenizerError } from './tokenizer-files.js'
import type { TokenizerJson } from './tokenizer-files.js'

/** A merge's rank and place in one number, so that the smaller number is the merge to be done first. */
const PLACES = 2 ** 24

interface Merge {
  rank: number
  id: number
}

/**
 * Byte-pair encoding with byte fallback, as in the Rust library (`models/bpe/word.rs`): of all pairs that stand side by side
 * the one of lowest rank is merged, the leftmost first, until none is left.
 */
export class Bpe {
  private readonly vocab: ReadonlyMap<string, number>
  private readonly vocabSize: number
  private readonly merges = new Map<number, Merge>()
  private readonly bytes: readonly number[] | null
  private readonly unknown: number | undefined
  private readonly fusesUnknown: boolean

  /** @throws DataError MIRASTRAL_DATA_TOKENIZER where a merge names a token that is not in the vocabulary. */
  constructor({ model }: TokenizerJson) {
    this.vocab = new Map(Object.entries(model.vocab as Record<string, number>))
    this.vocabSize = Math.max(...this.vocab.values()) + 1
    const pairs = (model.merges ?? []) as (string | [string, string])[]
    pairs.forEach((pair, rank) => this.addMerge(typeof pair === 'string' ? pair.split(' ') : pair, rank))
    const bytes = Array.from({ length: 256 }, (_, byte) => this.vocab.get(byteName(byte)))
    const isWhole = model.byte_fallback === true && bytes.every((id) => id !== undefined)
    this.bytes = isWhole ? bytes : null
    this.unknown = typeof model.unk_token === 'string' ? this.vocab.get(model.unk_token) : undefined
    this.fusesUnknown = model.fuse_unk === true
  }

  encode(piece: string): number[] {
    const symbols = this.symbolsOf(piece)
    return symbols.length < 2 ? symbols : this.merged(symbols)
  }

  private addMerge([left, right]: string[], rank: number): void {
    const [a, b, id] = [left, right, left + right].map((token) => this.vocab.get(token))
    if (a === undefined || b === undefined || id === undefined) {
      throw tokenizerError(`merge ${rank} of tokenizer.json names a token that is not in its vocabulary`)
    }
    const key = a * this.vocabSize + b
    if (!this.merges.has(key)) this.merges.set(key, { rank, id })
  }

  private symbolsOf(piece: string): number[] {
    const symbols: number[] = []
    let wasUnknown = false
    for (const char of piece) {
      const id = this.vocab.get(char)
      if (id !== undefined) symbols.push(id)
      else if (this.bytes !== null) for (const byte of Buffer.from(char)) symbols.push(this.bytes[byte])
      else if (this.unknown !== undefined && !(wasUnknown && this.fusesUnknown)) symbols.push(this.unknown)
      wasUnknown = id === undefined
    }
    return symbols
  }

  private merged(symbols: number[]): number[] {
    const next = Int32Array.from(symbols, (_, i) => (i + 1 < symbols.length ? i + 1 : -1))
    const previous = Int32Array.from(symbols, (_, i) => i - 1)
    const queue = new Heap()
    const offer = (place: number): void => {
      const merge = place < 0 || next[place] < 0 ? undefined : this.mergeOf(symbols[place], symbols[next[place]])
      if (merge !== undefined) queue.push(merge.rank * PLACES + place)
    }
    for (let i = 0; i < symbols.length - 1; i++) offer(i)
    for (let entry = queue.pop(); entry >= 0; entry = queue.pop()) {
      const place = entry % PLACES
      const after = next[place]
      // Both places may have been merged with others since.
      const merge = symbols[place] < 0 || after < 0 ? undefined : this.mergeOf(symbols[place], symbols[after])
      if (merge?.rank !== Math.floor(entry / PLACES)) continue
      symbols[place] = merge.id
      symbols[after] = -1
      next[place] = next[after]
      if (next[place] >= 0) previous[next[place]] = place
      offer(place)
      offer(previous[place])
    }
    return symbols.filter((id) => id >= 0)
  }

  private mergeOf(left: number, right: number): Merge | undefined {
    return this.merges.get(left * this.vocabSize + right)
  }
}

function byteName(byte: number): string {
  return `<0x${byte.toString(16).toUpperCase().padStart(2, '0')}>`
}

/** A binary heap of numbers that are not negative, the smallest on top. */
class Heap {
  private readonly items: number[] = []

  push(value: number): void {
    const { items } = this
    let at = items.push(value) - 1
    while (at > 0) {
      const parent = (at - 1) >> 1
      if (items[parent] <= value) break
      items[at] = items[parent]
      at = parent
    }
    items[at] = value
  }

  /** -1 where there is nothing. */
  pop(): number {
    const { items } = this
    const top = items.at(0)
    const last = items.pop()
    if (top === undefined || last === undefined) return -1
    let at = 0
    for (let child = 1; child < items.length; child = 2 * at + 1) {
      if (child + 1 < items.length && items[child + 1] < items[child]) child++
      if (items[child] >= last) break
      items[at] = items[child]
      at = child
    }
    if (items.length > 0) items[at] = last
    return top
  }
}
