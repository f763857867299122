import { DataError } from '../errors.js'
import { randperm } from './mersenne-twister.js'

export interface SamplerOptions {
  /** How many units (examples, or packed rows) there are. */
  length: number
  /** Units per micro-batch; the last batch of an epoch may be smaller, as in the Hugging Face Trainer. */
  batchSize: number
  /** Epoch e is shuffled with seed + e. Default 42. */
  seed?: number
  /** `false` keeps the order of the data in every epoch. Default true. */
  shuffle?: boolean
  /**
   * The length bucket of every unit: a batch then holds units of one bucket only, so that little is padded. Partly filled
   * batches come at the end of the epoch. Without it batches follow the permutation as it is.
   */
  buckets?: ArrayLike<number>
}

/** Where the sampler stands: plain JSON, for a checkpoint. */
export interface SamplerCursor {
  epoch: number
  seed: number
  /** How many units of this epoch have been handed out. */
  position: number
  /** The unit that comes next, or -1 at the end of an epoch: a restored sampler must find the same one there. */
  bin: number
}

export interface SampledBatch {
  indices: Int32Array
  epoch: number
  /** True for the last batch of its epoch. */
  endOfEpoch: boolean
}

/**
 * Endless batches of indices. The order of epoch e is `torch.randperm(length)` seeded with seed + e: the one of the
 * Hugging Face Trainer for the same seed and number of rows.
 */
export class Sampler {
  readonly length: number
  readonly batchSize: number
  readonly seed: number
  readonly shuffle: boolean
  private readonly buckets: ArrayLike<number> | undefined
  private epoch = 0
  private batches: Int32Array[] = []
  private next_ = 0

  /** @throws DataError MIRASTRAL_DATA_OPTION where length or batchSize is not a positive integer, or buckets has another length. */
  constructor(options: SamplerOptions) {
    const { length, batchSize, seed = 42, shuffle = true, buckets } = options
    requireInteger('length', length, 1)
    requireInteger('batchSize', batchSize, 1)
    requireInteger('seed', seed, 0)
    if (buckets !== undefined && buckets.length !== length) {
      throw new DataError(
        'MIRASTRAL_DATA_OPTION',
        `Sampler: buckets must have one entry per unit (${length}), got ${buckets.length}`,
      )
    }
    this.length = length
    this.batchSize = batchSize
    this.seed = seed
    this.shuffle = shuffle
    this.buckets = buckets
    this.batches = this.batchesOf(0)
  }

  /**
   * A sampler that goes on where `cursor` was taken.
   *
   * @throws DataError MIRASTRAL_DATA_CHANGED where the cursor was taken with another seed or another number of units.
   */
  static restore(options: SamplerOptions, cursor: SamplerCursor): Sampler {
    const sampler = new Sampler(options)
    if (cursor.seed !== sampler.seed) {
      throw new DataError(
        'MIRASTRAL_DATA_CHANGED',
        `Sampler: the cursor was taken with seed ${cursor.seed}, got ${sampler.seed}; resume with the same seed`,
      )
    }
    requireInteger('epoch', cursor.epoch, 0)
    sampler.epoch = cursor.epoch
    sampler.batches = sampler.batchesOf(cursor.epoch)
    let position = 0
    while (position < cursor.position && sampler.next_ < sampler.batches.length) {
      position += sampler.batches[sampler.next_++].length
    }
    if (position !== cursor.position || sampler.cursor().bin !== cursor.bin) {
      throw new DataError(
        'MIRASTRAL_DATA_CHANGED',
        `Sampler: the cursor (epoch ${cursor.epoch}, position ${cursor.position}, next ${cursor.bin}) does not fit ${sampler.length} units in batches of ${sampler.batchSize}; resume with the same data and batch size`,
      )
    }
    return sampler
  }

  get batchesPerEpoch(): number {
    return this.batches.length
  }

  /** The next batch; after the last of an epoch the following epoch begins. */
  next(): SampledBatch {
    if (this.next_ === this.batches.length) {
      this.epoch++
      this.batches = this.batchesOf(this.epoch)
      this.next_ = 0
    }
    const indices = this.batches[this.next_++]
    return { indices, epoch: this.epoch, endOfEpoch: this.next_ === this.batches.length }
  }

  cursor(): SamplerCursor {
    let position = 0
    for (let i = 0; i < this.next_; i++) position += this.batches[i].length
    const bin = this.next_ < this.batches.length ? this.batches[this.next_][0] : -1
    return { epoch: this.epoch, seed: this.seed, position, bin }
  }

  private batchesOf(epoch: number): Int32Array[] {
    const order = this.shuffle
      ? randperm(this.length, this.seed + epoch)
      : Int32Array.from({ length: this.length }, (_, i) => i)
    return this.buckets === undefined
      ? consecutiveBatches(order, this.batchSize)
      : bucketedBatches(order, this.batchSize, this.buckets)
  }
}

function consecutiveBatches(order: Int32Array, batchSize: number): Int32Array[] {
  const batches: Int32Array[] = []
  for (let at = 0; at < order.length; at += batchSize) batches.push(order.subarray(at, at + batchSize))
  return batches
}

/** A batch is handed out as soon as its bucket is full, the rest in the order in which the buckets were opened. */
function bucketedBatches(order: Int32Array, batchSize: number, buckets: ArrayLike<number>): Int32Array[] {
  const batches: Int32Array[] = []
  const open = new Map<number, number[]>()
  for (const index of order) {
    const waiting = open.get(buckets[index]) ?? []
    waiting.push(index)
    open.set(buckets[index], waiting)
    if (waiting.length === batchSize) {
      batches.push(Int32Array.from(waiting))
      open.delete(buckets[index])
    }
  }
  for (const waiting of open.values()) batches.push(Int32Array.from(waiting))
  return batches
}

function requireInteger(name: string, value: number, minimum: number): void {
  if (!Number.isSafeInteger(value) || value < minimum) {
    throw new DataError('MIRASTRAL_DATA_OPTION', `Sampler: ${name} must be an integer >= ${minimum}, got ${value}`)
  }
}
