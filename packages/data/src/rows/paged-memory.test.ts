import { mkdirSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { temporaryFolder } from '../../test/fixtures.js'
import type { ProcessedChunk } from '../records/processed-chunk.js'
import { GrowableUint32 } from './growable.js'
import { PAGE_BYTES, PagedMemory } from './paged-memory.js'
import { TokenSpool } from './token-spool.js'

const folder = temporaryFolder()

describe('PagedMemory', () => {
  it('holds what was written, however little of it fits (property)', () => {
    const write = fc.record({
      array: fc.nat(2),
      index: fc.nat(3_000_000),
      value: fc.integer({ min: 1, max: 2 ** 32 - 1 }),
    })
    fc.assert(
      fc.property(fc.array(write, { minLength: 1500, maxLength: 3000 }), (writes) => {
        const memory = new PagedMemory(1, folder)
        const arrays = [0, 1, 2].map(() => memory.createArray())
        const plain = new Map<string, number>()
        for (const { array, index, value } of writes) {
          arrays[array].setWord(index, value)
          plain.set(`${array}:${index}`, value)
        }
        for (const { array, index } of writes) {
          expect(arrays[array].word(index)).toBe(plain.get(`${array}:${index}`))
          const bytes = new DataView(arrays[array].view(index * 4, 4).slice().buffer)
          expect(bytes.getUint32(0, true)).toBe(plain.get(`${array}:${index}`))
        }
        arrays[0].release()
        expect(arrays[0].word(writes[0].index)).toBe(0)
        memory.close()
      }),
      { numRuns: 10 },
    )
    expect(readdirSync(folder)).toEqual([])
  })

  it('needs no file while everything fits, and says where it cannot write one', () => {
    const memory = new PagedMemory(1 << 20, join(folder, 'none'))
    const list = new GrowableUint32(memory)
    const fits = (1 << 20) / 4
    for (let i = 0; i < fits; i++) list.push(i)
    expect(list.at(fits - 1)).toBe(fits - 1)
    expect(() => list.push(0)).toThrow(/temporary files cannot be written in .*none \(ENOENT\); free space there/)
    memory.close()
  })

  it('gives the pages of an array that is released to others', () => {
    const memory = new PagedMemory(1 << 20, join(folder, 'none'))
    for (let round = 0; round < 3; round++) {
      const array = memory.createArray()
      for (let page = 0; page < 1000; page++) array.set(page * PAGE_BYTES, Uint8Array.of(round + 1, page % 256))
      expect(Array.from(array.view(999 * PAGE_BYTES, 3))).toEqual([round + 1, 999 % 256, 0])
      array.release()
    }
    memory.close()
  })
})

describe('TokenSpool', () => {
  it.each([0, 40, 1 << 20])('gives tokens back, of which %i bytes are in memory', (maxBytes) => {
    const place = join(folder, `spool${maxBytes}`)
    mkdirSync(place)
    const spool = new TokenSpool(maxBytes, place)
    const chunks = [Uint16Array.of(1, 2, 3), Uint32Array.of(4, 5, 1 << 20), new Uint16Array(0), Uint16Array.of(65_535)]
    const kept = chunks.map((tokens) => spool.keep({ tokens } as ProcessedChunk).source)
    chunks.forEach((tokens, i) => expect(kept[i].read(0, tokens.length)).toEqual(tokens))
    expect(kept[1].read(1, 2)).toEqual(Uint32Array.of(5, 1 << 20))
    expect(readdirSync(place)).toEqual([])
    spool.close()
  })
})
