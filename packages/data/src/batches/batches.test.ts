import { createHash } from 'node:crypto'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { golden } from '../../test/fixtures.js'
import type { TokenizedExample } from '../conversation.js'
import { DataError } from '../errors.js'
import { collate } from './collate.js'
import { randperm } from './mersenne-twister.js'
import { pack } from './pack.js'
import { Sampler } from './sampler.js'

const example = (ids: number[], trainedFrom: number): TokenizedExample => ({
  inputIds: Int32Array.from(ids),
  labels: Int32Array.from(ids, (id, i) => (i >= trainedFrom ? id : -100)),
})

describe('randperm', () => {
  it('is torch.randperm for the same seed', () => {
    interface Row {
      seed: number
      n: number
      sha256: string
      order: number[] | null
    }
    for (const { seed, n, sha256, order } of golden<Row[]>('permutations')) {
      const ours = Array.from(randperm(n, seed))
      if (order !== null) expect(ours).toEqual(order)
      expect(createHash('sha256').update(ours.join(',')).digest('hex')).toBe(sha256)
    }
    expect(Array.from(randperm(10, 42))).toEqual([2, 6, 1, 8, 4, 5, 0, 9, 3, 7])
  })
})

describe('collate', () => {
  it('pads on the right, shifts labels into targets and counts what is trained', () => {
    const batch = collate([example([1, 5, 6, 2], 2), example([1, 7, 2], 1)], { padTokenId: 0, sequenceLength: 5 })
    expect(batch).toEqual({
      batchSize: 2,
      sequenceLength: 5,
      inputIds: Int32Array.of(1, 5, 6, 2, 0, 1, 7, 2, 0, 0),
      targets: Int32Array.of(-100, 6, 2, -100, -100, 7, 2, -100, -100, -100),
      positions: Int32Array.of(0, 1, 2, 3, 0, 0, 1, 2, 0, 0),
      segmentIds: Int32Array.of(1, 1, 1, 1, 0, 1, 1, 1, 0, 0),
      trainedTokens: 4,
    })
  })

  it('packs rows into segments that predict nothing of each other', () => {
    const batch = collate([[example([1, 5, 2], 0), example([1, 6, 2], 0)]], { padTokenId: 9, sequenceLength: 8 })
    expect(batch.inputIds).toEqual(Int32Array.of(1, 5, 2, 1, 6, 2, 9, 9))
    expect(batch.targets).toEqual(Int32Array.of(5, 2, -100, 6, 2, -100, -100, -100))
    expect(batch.positions).toEqual(Int32Array.of(0, 1, 2, 0, 1, 2, 0, 0))
    expect(batch.segmentIds).toEqual(Int32Array.of(1, 1, 1, 2, 2, 2, 0, 0))
    expect(batch.trainedTokens).toBe(4)
  })

  it('takes the smallest bucket that fits, and refuses a row that fits none', () => {
    const options = { padTokenId: 0, sequenceLength: [2, 4, 8] }
    expect(collate([example([1, 2, 3], 1)], options).sequenceLength).toBe(4)
    expect(() => collate([example([1, 2, 3, 4, 5, 6, 7, 8, 9], 1)], options)).toThrow(/2, 4, 8, got 9 tokens/)
  })
})

describe('pack', () => {
  const lengthsIn = fc.array(fc.integer({ min: 1, max: 50 }), { maxLength: 200 })

  it('puts every row whole into exactly one bin that it fits (property)', () => {
    fc.assert(
      fc.property(lengthsIn, fc.integer({ min: 50, max: 120 }), (lengths, capacity) => {
        const bins = pack(lengths, capacity)
        const rows = bins.flatMap((bin) => Array.from(bin)).sort((x, y) => x - y)
        expect(rows).toEqual(lengths.map((_, i) => i))
        for (const bin of bins) expect(bin.reduce((sum, row) => sum + lengths[row], 0)).toBeLessThanOrEqual(capacity)
      }),
      { numRuns: 300, seed: 3 },
    )
  })

  it('puts each row where it leaves least room, longest first (against a plain search)', () => {
    const plain = (lengths: number[], capacity: number): number[][] => {
      const bins: { room: number; rows: number[]; at: number }[] = []
      const order = lengths.map((_, i) => i).sort((x, y) => lengths[y] - lengths[x] || x - y)
      for (const [time, row] of order.entries()) {
        const fitting = bins.filter(({ room }) => room >= lengths[row])
        // Of bins with equal room the one that came to it last.
        fitting.sort((x, y) => x.room - y.room || y.at - x.at)
        const bin = fitting.at(0) ?? { room: capacity, rows: [], at: 0 }
        if (fitting.length === 0) bins.push(bin)
        bin.room -= lengths[row]
        bin.rows.push(row)
        bin.at = time
      }
      return bins.map(({ rows }) => rows)
    }
    fc.assert(
      fc.property(lengthsIn, (lengths) => {
        expect(pack(lengths, 64).map((bin) => Array.from(bin))).toEqual(plain(lengths, 64))
      }),
      { numRuns: 200, seed: 4 },
    )
  })

  it('refuses a row that is longer than a bin', () => {
    expect(() => pack([3, 9], 8)).toThrow(/must fit a bin of 8 tokens, got 9/)
  })
})

describe('Sampler', () => {
  it('hands out each epoch in the order of the Hugging Face Trainer, the last batch short', () => {
    const sampler = new Sampler({ length: 10, batchSize: 4, seed: 42 })
    const first = [sampler.next(), sampler.next(), sampler.next()]
    expect(first.map(({ indices }) => Array.from(indices))).toEqual([
      [2, 6, 1, 8],
      [4, 5, 0, 9],
      [3, 7],
    ])
    expect(first.map(({ endOfEpoch }) => endOfEpoch)).toEqual([false, false, true])
    const second = [sampler.next(), sampler.next(), sampler.next()].flatMap(({ indices }) => Array.from(indices))
    expect(second).toEqual(Array.from(randperm(10, 43)))
  })

  it('goes on from a cursor exactly where it was taken (property)', () => {
    const shape = fc.record({
      length: fc.integer({ min: 1, max: 40 }),
      batchSize: fc.integer({ min: 1, max: 9 }),
      steps: fc.integer({ min: 0, max: 60 }),
      bucketed: fc.boolean(),
    })
    fc.assert(
      fc.property(shape, ({ length, batchSize, steps, bucketed }) => {
        const buckets = bucketed ? { buckets: Array.from({ length }, (_, i) => (i * 7) % 3) } : {}
        const options = { length, batchSize, seed: 5, ...buckets }
        const one = new Sampler(options)
        for (let i = 0; i < steps; i++) one.next()
        const cursor = JSON.parse(JSON.stringify(one.cursor())) as ReturnType<Sampler['cursor']>
        const other = Sampler.restore(options, cursor)
        for (let i = 0; i < 12; i++) expect(other.next()).toEqual(one.next())
      }),
      { numRuns: 200, seed: 5 },
    )
  })

  it('makes batches of one length bucket, each unit once per epoch', () => {
    const buckets = Array.from({ length: 23 }, (_, i) => i % 4)
    const sampler = new Sampler({ length: 23, batchSize: 3, buckets })
    const seen: number[] = []
    for (let i = 0; i < sampler.batchesPerEpoch; i++) {
      const { indices } = sampler.next()
      expect(new Set(Array.from(indices, (index) => buckets[index])).size).toBe(1)
      seen.push(...indices)
    }
    expect(seen.sort((x, y) => x - y)).toEqual(buckets.map((_, i) => i))
  })

  it('refuses a cursor of other data, another seed or another batch size', () => {
    const cursor = new Sampler({ length: 10, batchSize: 3 }).cursor()
    expect(() => Sampler.restore({ length: 10, batchSize: 3, seed: 1 }, cursor)).toThrow(/taken with seed 42, got 1/)
    expect(() => Sampler.restore({ length: 11, batchSize: 3 }, cursor)).toThrow(DataError)
    const later = new Sampler({ length: 10, batchSize: 3 })
    later.next()
    expect(() => Sampler.restore({ length: 10, batchSize: 4 }, later.cursor())).toThrow(
      /does not fit 10 units in batches of 4/,
    )
  })

  it('refuses sizes that make no sense', () => {
    expect(() => new Sampler({ length: 0, batchSize: 1 })).toThrow('Sampler: length must be an integer >= 1, got 0')
    expect(() => new Sampler({ length: 3, batchSize: 1, buckets: [1] })).toThrow(/one entry per unit \(3\), got 1/)
  })
})
