import { createHash } from 'node:crypto'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { Turn } from '../conversation.js'
import { PagedMemory } from '../rows/paged-memory.js'
import { contentHash } from './fingerprint.js'
import { HashIndex } from './hash-index.js'
import { SIGNATURE_BYTES, mixed, signatureOf, similarity } from './min-hash.js'
import { NearIndex } from './near-index.js'

const hashOf = (n: number): Uint8Array => createHash('sha256').update(String(n)).digest().subarray(0, 16)
const turns = (question: string, answer: string): Turn[] => [
  { role: 'user', content: question },
  { role: 'assistant', content: answer },
]

/** A text of words that its seed decides, one in `changed` of them replaced. */
function words(count: number, seed: number, changed = 0): string {
  return Array.from({ length: count }, (_, i) => {
    const n = mixed(i * 100_003 + seed) % 5003
    return changed > 0 && i % changed === changed - 1 ? `other${n}` : `word${n}`
  }).join(' ')
}

/** Jaccard similarity of three-word shingles, counted. */
function jaccard(a: string, b: string): number {
  const shingles = (text: string): Set<string> => {
    const list = text.split(' ')
    return new Set(list.slice(2).map((_, i) => list.slice(i, i + 3).join(' ')))
  }
  const [x, y] = [shingles(a), shingles(b)]
  const both = [...x].filter((shingle) => y.has(shingle)).length
  return both / (x.size + y.size - both)
}

describe('HashIndex', () => {
  it('is a set that can be cut back (property)', () => {
    const actions = fc.array(fc.tuple(fc.integer({ min: 0, max: 3000 }), fc.boolean()), { maxLength: 60 })
    fc.assert(
      fc.property(actions, fc.integer({ min: 0, max: 2000 }), (some, bulk) => {
        const index = new HashIndex()
        const plain: number[] = []
        for (let i = 0; i < bulk; i++) {
          index.add(hashOf(10_000 + i))
          plain.push(10_000 + i)
        }
        for (const [n, cut] of some) {
          if (cut) {
            const length = Math.floor((plain.length * n) / 3000)
            index.truncate(length)
            plain.length = length
          } else {
            index.add(hashOf(n))
            plain.push(n)
          }
          expect(index.length).toBe(plain.length)
          expect(index.has(hashOf(n))).toBe(plain.includes(n))
        }
        expect(plain.map((_, i) => Buffer.from(index.at(i)).toString('hex'))).toEqual(
          plain.map((n) => Buffer.from(hashOf(n)).toString('hex')),
        )
      }),
      { numRuns: 30, seed: 9 },
    )
  })
})

describe('signatures', () => {
  it('estimate the similarity of the shingles', () => {
    for (const changed of [4, 8, 20, 60]) {
      const [a, b] = [words(300, 1), words(300, 1, changed)]
      const estimate = similarity(signatureOf(turns(a, a)), signatureOf(turns(b, b)))
      expect(Math.abs(estimate - jaccard(a, b))).toBeLessThan(0.15)
    }
    expect(
      similarity(signatureOf(turns(words(50, 1), words(50, 2))), signatureOf(turns(words(50, 3), words(50, 4)))),
    ).toBeLessThan(0.1)
  })

  it('look at both sides of a conversation, and take the one that is less alike', () => {
    const [a, b, c] = [words(80, 1), words(80, 2), words(80, 3)]
    expect(similarity(signatureOf(turns(a, b)), signatureOf(turns(a, b)))).toBe(1)
    expect(similarity(signatureOf(turns(a, b)), signatureOf(turns(a, c)))).toBeLessThan(0.2)
    expect(similarity(signatureOf(turns(a, b)), signatureOf(turns(c, b)))).toBeLessThan(0.2)
  })

  it('exist for texts without words', () => {
    expect(signatureOf(turns('?', '🙂'))).toHaveLength(SIGNATURE_BYTES)
    expect(similarity(signatureOf(turns('', '')), signatureOf(turns('', '')))).toBe(1)
  })

  it('do not depend on case, punctuation or white space', () => {
    expect(signatureOf(turns('Hello,  there!', 'How ARE you'))).toEqual(
      signatureOf(turns('hello there', 'how are\nyou?')),
    )
  })
})

describe('NearIndex', () => {
  it('finds what is nearly the same, and nothing else, among thousands', () => {
    const index = new NearIndex()
    for (let i = 0; i < 3000; i++) index.add(signatureOf(turns(words(60, i), words(60, i + 5000))))
    for (const i of [0, 1, 999, 2999]) {
      expect(index.has(signatureOf(turns(words(60, i), `${words(60, i + 5000)} indeed`)))).toBe(true)
      expect(index.has(signatureOf(turns(words(60, i), words(60, i + 9000))))).toBe(false)
    }
    index.truncate(999)
    expect(index.has(signatureOf(turns(words(60, 998), words(60, 5998))))).toBe(true)
    expect(index.has(signatureOf(turns(words(60, 999), words(60, 5999))))).toBe(false)
    expect(index.length).toBe(999)
    index.add(signatureOf(turns(words(60, 999), words(60, 5999))))
    expect(index.has(signatureOf(turns(words(60, 999), words(60, 5999))))).toBe(true)
  })

  it('does not take signatures that are absent for each other', () => {
    const index = new NearIndex()
    for (let i = 0; i < 20_000; i++) index.add(new Uint8Array(SIGNATURE_BYTES))
    index.add(signatureOf(turns('a b c', 'd e f')))
    expect(index.has(signatureOf(turns('a b c', 'd e f')))).toBe(true)
    index.truncate(1)
    expect(index.has(signatureOf(turns('a b c', 'd e f')))).toBe(false)
  })

  it.each([64 << 10, 64 << 20])('gives the same answers in %i bytes of memory', (bytes) => {
    const memory = new PagedMemory(bytes)
    const [index, hashes] = [new NearIndex(memory), new HashIndex(memory)]
    const signatures = Array.from({ length: 9000 }, (_, i) => signatureOf(turns(words(9, i), words(9, i + 20_000))))
    const answers = signatures.map((signature, i) => {
      const answer = index.has(signature) || hashes.has(hashOf(i % 7000))
      index.add(signature)
      hashes.add(hashOf(i % 7000))
      return answer
    })
    expect(answers.indexOf(true)).toBe(7000)
    expect(answers.lastIndexOf(false)).toBe(6999)
    index.truncate(5000)
    hashes.truncate(5000)
    expect(signatures.map((signature) => index.has(signature)).lastIndexOf(true)).toBe(4999)
    expect(hashes.has(hashOf(4999)) && !hashes.has(hashOf(5000))).toBe(true)
    memory.close()
    expect(() => index.has(signatures[0])).toThrow(/before close/)
  })
})

describe('contentHash', () => {
  it('is equal for what differs in white space or composition, and for nothing else', () => {
    const hash = (question: string, answer = 'a'): string => contentHash({ turns: turns(question, answer) })
    expect(hash('caf\u00e9  au\nlait ')).toBe(hash('cafe\u0301 au lait'))
    expect(hash('A')).not.toBe(hash('a'))
    expect(hash('x y', 'z')).not.toBe(hash('x', 'y z'))
    expect(hash('x')).toMatch(/^[0-9a-f]{32}$/)
  })
})
