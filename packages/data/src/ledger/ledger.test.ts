import { appendFileSync, existsSync, mkdirSync, readFileSync, renameSync, statSync, writeFileSync } from 'node:fs'
import { hostname } from 'node:os'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { fixture, temporaryFolder } from '../../test/fixtures.js'
import { DataError } from '../errors.js'
import { identify } from '../read/hash-file.js'
import { entrySchema } from './entry.js'
import type { LedgerEntry } from './entry.js'
import { importPickle } from './import-pickle.js'
import type { Fingerprints } from './fingerprints.js'
import { Ledger } from './ledger.js'
import { readPickledPaths } from './pickle.js'
import { ledgerStatus } from './status.js'

const folder = temporaryFolder()
let files = 0
const freshPath = (): string => join(folder, `case${files++}`, 'processed_files.jsonl')

const entry = (name: string, status: LedgerEntry['status'] = 'processed', hash = name): LedgerEntry =>
  entrySchema.parse({
    version: 1,
    status,
    path: `/data/${name}.json`,
    size: 1,
    sha256: Buffer.from(hash.padEnd(32, '.')).toString('hex'),
    time: '2030-01-01T00:00:00.000Z',
  })

const hashOf = (name: string): string => entry(name).sha256 ?? ''

async function reopened(path: string): Promise<Ledger> {
  const ledger = await Ledger.open(path)
  await ledger.close()
  return ledger
}

describe('Ledger', () => {
  it('keeps entries as JSON lines, in the order in which they came', async () => {
    const path = freshPath()
    const ledger = await Ledger.open(path)
    await ledger.append([entry('a'), entry('b')])
    await ledger.append([entry('c', 'failed')])
    await ledger.close()
    expect(readFileSync(path, 'utf8').split('\n')).toHaveLength(4)
    expect((await Ledger.read(path)).entries.map(({ path }) => path)).toEqual([
      '/data/a.json',
      '/data/b.json',
      '/data/c.json',
    ])
  })

  it('can be cut off at any byte: whole lines stay, the rest is repaired, and writing goes on', async () => {
    const path = freshPath()
    const first = await Ledger.open(path)
    await first.append([entry('a'), entry('b'), entry('c')])
    await first.close()
    const whole = readFileSync(path)
    const lineEnds = [...whole.keys()].filter((i) => whole[i] === 0x0a)
    for (let length = 0; length <= whole.length; length += length > whole.length - 30 ? 1 : 7) {
      writeFileSync(path, whole.subarray(0, length))
      const wholeLines = lineEnds.filter((end) => end < length).length
      // A line that lacks nothing but its end counts.
      const expected = lineEnds.includes(length) ? wholeLines + 1 : wholeLines
      const ledger = await Ledger.open(path)
      expect(ledger.entries).toHaveLength(expected)
      await ledger.append([entry('d')])
      await ledger.close()
      const names = (await Ledger.read(path)).entries.map(({ path }) => path)
      expect(names).toEqual([...['/data/a.json', '/data/b.json', '/data/c.json'].slice(0, expected), '/data/d.json'])
    }
  })

  it('says what it cut off and what it ignored, and keeps strange lines', async () => {
    const path = freshPath()
    await (await Ledger.open(path)).close()
    writeFileSync(
      path,
      `${JSON.stringify(entry('a'))}\nnot an entry\n${JSON.stringify(entry('b'))}\n{"version": 1, "sta`,
    )
    expect((await Ledger.read(path)).found).toEqual({ tornBytes: 19, badLines: 1 })
    const ledger = await reopened(path)
    expect(ledger.found).toEqual({ tornBytes: 19, badLines: 1 })
    expect(readFileSync(path, 'utf8')).toBe(
      `${JSON.stringify(entry('a'))}\nnot an entry\n${JSON.stringify(entry('b'))}\n`,
    )
  })

  it('knows a file by its content: renamed it is processed, changed it is not, failed it is tried again', async () => {
    const path = freshPath()
    const ledger = await Ledger.open(path)
    await ledger.append([entry('a'), entry('b', 'failed')])
    expect(ledger.standing(hashOf('a'), '/data/a.json')).toBe('processed')
    expect(ledger.standing(hashOf('a'), '/data/renamed.json')).toBe('processed')
    expect(ledger.standing(hashOf('other'), '/data/a.json')).toBe('changed')
    expect(ledger.standing(hashOf('b'), '/data/b.json')).toBe('failed')
    expect(ledger.standing(hashOf('new'), '/data/new.json')).toBe('new')
    await ledger.append([entry('b')])
    expect(ledger.standing(hashOf('b'), '/data/b.json')).toBe('processed')
    await ledger.close()
  })

  it('is locked while it is open, and says by whom', async () => {
    const path = freshPath()
    const ledger = await Ledger.open(path)
    const second = Ledger.open(path)
    await expect(second).rejects.toThrow(DataError)
    await expect(second).rejects.toMatchObject({ code: 'MIRASTRAL_LEDGER_LOCKED', exitCode: 2 })
    await expect(second).rejects.toThrow(`process ${process.pid} on ${hostname()} since `)
    await ledger.close()
    await ledger.close()
    expect(existsSync(`${path}.lock`)).toBe(false)
    await reopened(path)
  })

  it('takes over the lock of a process that is gone, and respects one of another machine', async () => {
    const path = freshPath()
    await reopened(path)
    const holder = { pid: 2 ** 22 + 1, startedAt: '1', host: hostname(), since: '2030-01-01', token: 'x' }
    writeFileSync(`${path}.lock`, JSON.stringify(holder))
    await reopened(path)
    writeFileSync(`${path}.lock`, JSON.stringify({ ...holder, pid: process.pid }))
    await reopened(path)
    writeFileSync(`${path}.lock`, JSON.stringify({ ...holder, host: 'another-machine' }))
    await expect(Ledger.open(path)).rejects.toThrow('on another-machine since 2030-01-01')
  })

  it('lets only one of many take over at once', async () => {
    const path = freshPath()
    await reopened(path)
    const gone = { pid: 2 ** 22 + 1, startedAt: '1', host: hostname(), since: '2030-01-01', token: 'x' }
    writeFileSync(`${path}.lock`, JSON.stringify(gone))
    const results = await Promise.allSettled(Array.from({ length: 8 }, () => Ledger.open(path)))
    const opened = results.filter((result) => result.status === 'fulfilled')
    expect(opened).toHaveLength(1)
    for (const { value } of opened) await value.close()
  })

  it('writes nothing when it was opened for reading', async () => {
    const path = freshPath()
    await expect((await Ledger.read(path)).append([entry('a')])).rejects.toThrow(/opened for reading/)
    expect(existsSync(path)).toBe(false)
  })

  it('names a folder that it cannot make', async () => {
    writeFileSync(join(folder, 'file'), '')
    await expect(Ledger.open(join(folder, 'file', 'x.jsonl'))).rejects.toThrow(
      /^ledger: the folder of .* cannot be made/,
    )
  })

  it('keeps fingerprints of conversations, repairs a torn one and forgets those of a ledger that was deleted', async () => {
    const path = freshPath()
    const prints = (value: number) => ({
      hashes: new Uint8Array(32).fill(value),
      signatures: new Uint8Array(256).fill(value),
    })
    const all = async (ledger: Ledger): Promise<Fingerprints[]> => {
      const batches: Fingerprints[] = []
      for await (const batch of ledger.fingerprints()) batches.push(batch)
      return batches
    }
    const first = await Ledger.open(path)
    expect(await all(first)).toEqual([])
    await first.append([entry('a')], [prints(1)])
    await first.append([entry('b')], [prints(2)])
    await first.close()
    const file = path.replace('.jsonl', '.fingerprints')
    appendFileSync(file, Buffer.alloc(100, 7))
    const second = await Ledger.open(path)
    expect((await all(second)).map(({ hashes }) => hashes)).toEqual([
      Uint8Array.from([...prints(1).hashes, ...prints(2).hashes]),
    ])
    await second.append([entry('c')], [prints(3), prints(3)])
    await second.close()
    expect(statSync(file).size).toBe(8 * 144)
    renameSync(path, `${path}.gone`)
    const third = await Ledger.open(path)
    expect(await all(third)).toEqual([])
    await third.append([entry('d')], [prints(4)])
    expect(await all(third)).toEqual([prints(4)])
    await third.close()
  })
})

describe('ledgerStatus', () => {
  it('lists processed, renamed, new, changed and failed files', async () => {
    const path = freshPath()
    const data = join(path, '..', 'data')
    await reopened(path)
    mkdirSync(data)
    for (const name of ['done', 'moved', 'grown', 'fresh']) writeFileSync(join(data, `${name}.json`), `["${name}"]`)
    const ledger = await Ledger.open(path)
    for (const name of ['done', 'moved', 'grown']) {
      const { sha256, size } = await identify(join(data, `${name}.json`))
      await ledger.append([{ ...entry(name), path: join(data, `${name}.json`), sha256, size }])
    }
    renameSync(join(data, 'moved.json'), join(data, 'renamed.json'))
    appendFileSync(join(data, 'grown.json'), '["more"]')
    const standings = await ledgerStatus(ledger, [data])
    await ledger.close()
    expect(standings).toEqual([
      { path: join(data, 'done.json'), standing: 'processed' },
      { path: join(data, 'fresh.json'), standing: 'new' },
      { path: join(data, 'grown.json'), standing: 'changed' },
      { path: join(data, 'renamed.json'), standing: 'processed', processedAs: join(data, 'moved.json') },
    ])
  })
})

describe('the import of the Python system’s pickle', () => {
  const kinds = ['set', 'list', 'frozenset', 'paths', 'dict'].flatMap((kind) => [0, 2, 5].map((n) => `${kind}-${n}`))
  it.each(kinds)('reads %s', async (name) => {
    const paths = await readPickledPaths(fixture(`pickles/${name}.pkl`))
    expect(paths.sort()).toEqual(['/data/worker2/b é.jsonl', 'worker1/a.json'])
  })

  it('executes nothing, and names what it refuses', async () => {
    await expect(readPickledPaths(fixture('pickles/hostile.pkl'))).rejects.toThrow(
      /holds (posix|nt|os)\.system, which is no/,
    )
    await expect(readPickledPaths(fixture('pickles/numbers.pkl'))).rejects.toThrow(
      /must hold a set, list or dict of paths/,
    )
    await expect(readPickledPaths(fixture('formats/alpaca.json'))).rejects.toThrow(/is not a whole pickle/)
    await expect(readPickledPaths(join(folder, 'none.pkl'))).rejects.toThrow(/cannot be opened \(ENOENT\)/)
  })

  it('takes the files into the ledger, by content where they exist and by path where not, once', async () => {
    const path = freshPath()
    await reopened(path)
    const base = join(path, '..')
    mkdirSync(join(base, 'worker1'))
    writeFileSync(join(base, 'worker1/a.json'), '[]')
    const ledger = await Ledger.open(path)
    const report = await importPickle(ledger, fixture('pickles/set-5.pkl'), base)
    expect(report).toEqual({ paths: 2, imported: 2, missing: 1, known: 0 })
    expect(await importPickle(ledger, fixture('pickles/set-5.pkl'), base)).toEqual({
      paths: 2,
      imported: 0,
      missing: 0,
      known: 2,
    })
    const { sha256 } = await identify(join(base, 'worker1/a.json'))
    expect(ledger.standing(sha256, '/elsewhere.json')).toBe('processed')
    expect(ledger.standing('0'.repeat(64), '/data/worker2/b é.jsonl')).toBe('processed')
    await ledger.close()
  })
})
