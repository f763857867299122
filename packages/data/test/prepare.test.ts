import {
  appendFileSync,
  chmodSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { gzipSync } from 'node:zlib'
import type { DataInput, DataOptions, PrepareRequest, PreparedData } from '@mirastral/data'
import { ConversationReader, Ledger, formatReport, prepareDataset, preparePreferences } from '@mirastral/data'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { fixture, loadTokenizer, temporaryFolder } from './fixtures.js'

const folder = temporaryFolder()
const tokenizer = await loadTokenizer('mistral-v3')
let cases = 0

/** A folder of files by their names; an object is written as JSON. */
function dataFolder(files: Record<string, string | Uint8Array | object>): string {
  const path = join(folder, `case${cases++}`)
  mkdirSync(path)
  for (const [name, content] of Object.entries(files)) {
    const isRaw = typeof content === 'string' || content instanceof Uint8Array
    writeFileSync(join(path, name), isRaw ? content : JSON.stringify(content))
  }
  return path
}

const prepare = (path: string, options: DataOptions = {}, more: Partial<PrepareRequest> = {}): Promise<PreparedData> =>
  prepareDataset({ inputs: [path], tokenizer, options: { evalFraction: 0, ...options }, ...more })

const pair = (n: number | string) => ({ question: `What about number ${n}?`, answer: `It is a fine number, ${n}.` })
const lines = (...records: object[]): string => records.map((record) => `${JSON.stringify(record)}\n`).join('')

const texts = (data: PreparedData): string[] =>
  Array.from(data.train, ({ inputIds }) => data.tokenizer.decode(inputIds))
const statuses = (data: PreparedData): unknown[] => data.report.files.map(({ status, problem }) => problem ?? status)

describe('prepareDataset', () => {
  it('reads every kind of file, and mixed formats record by record', async () => {
    const path = dataFolder({
      'a.json': [pair(1), { Context: 'I feel low.', Response: ['Since when?', 'What helps?'] }],
      'b.jsonl.gz': gzipSync(lines(pair(2), { prompt: 'Say hello.', completion: 'Hello.' })),
      'c.csv': '\ufeffquestion;answer\n"What; ""this""?";That\nWhere?;Here\n',
      'd.tsv': 'question\tanswer\nWhen?\tNow, I think.\n',
      'e.ndjson': lines({ text: 'Running text.' }),
    })
    const data = await prepare(path)
    expect(data.report.files.map(({ formats }) => formats)).toEqual([
      { 'question-answer': 1, 'context-response': 1 },
      { 'question-answer': 1, 'prompt-completion': 1 },
      { 'question-answer': 2 },
      { 'question-answer': 1 },
      { text: 1 },
    ])
    expect(texts(data)).toContain('What; "this"? That')
    expect(texts(data)).toContain('Running text.')
    expect(data.report.totals).toMatchObject({ read: 8, used: 9, dropped: {} })
  })

  it('reads Parquet in slices, lists of messages too', async () => {
    const data = await prepareDataset({
      inputs: [fixture('tables')],
      tokenizer,
      options: { evalFraction: 0, duplicates: 'exact' },
    })
    expect(data.report.files.map(({ read, used, dropped }) => ({ read, used, dropped }))).toEqual([
      { read: 50, used: 50, dropped: {} },
      { read: 12, used: 11, dropped: { 'unknown-format': 1 } },
    ])
    expect(texts(data)[7]).toBe('question 7 é answer number 7')
  })

  it('leaves a broken record out and goes on, and a broken file for the next run', async () => {
    const path = dataFolder({
      'broken.jsonl': `${lines(pair(1))}{"question": "cut of\n[]\n5\n${lines({ strange: 1 }, pair(2))}`,
      'cut.json': JSON.stringify([pair(3), pair(4)]).slice(0, -5),
      'empty.json': '',
      'garbage.json': 'hello',
      'latin1.jsonl': Buffer.from(lines({ question: 'Qué?', answer: 'Así.' }, pair(5)), 'latin1'),
      'nothing.json': [{ strange: 1 }],
      'nul.jsonl': lines({ question: 'a\0b', answer: 'c' }, pair(6)),
      'not-gzip.jsonl.gz': Uint8Array.of(0x1f, 0x8b, 1, 2, 3),
      'utf16.json': Buffer.from(`\ufeff${JSON.stringify([pair('sedici')])}`, 'utf16le'),
      'whole.json': [pair(7)],
    })
    const data = await prepare(path, { duplicates: 'exact' }, { quarantine: join(path, 'out', 'quarantine.jsonl') })
    expect(statuses(data)).toEqual([
      ...[
        'used',
        'truncated',
        'no-records',
        'not-json',
        'used',
        'invalid-gzip',
        'nothing-usable',
        'used',
        'used',
        'used',
      ],
    ])
    expect(data.report.totals.dropped).toEqual({
      ...{ 'invalid-json': 1, 'not-an-object': 2, 'unknown-format': 2, 'invalid-utf8': 1, 'control-character': 1 },
    })
    expect(texts(data)).toEqual([1, 2, 5, 6, 'sedici', 7].map((n) => `${pair(n).question} ${pair(n).answer}`))
    const quarantined = readFileSync(join(path, 'out/quarantine.jsonl'), 'utf8').trim().split('\n')
    expect(quarantined.map((line) => JSON.parse(line) as object)).toHaveLength(12)
    expect(JSON.parse(quarantined[0])).toEqual({
      file: join(path, 'broken.jsonl'),
      sha256: data.report.files[0].sha256,
      record: 1,
      rule: 'invalid-json',
    })
    expect(formatReport(data.report)).toContain('cut.json: ends in the middle of its JSON')
  })

  it('reads other encodings where they are named', async () => {
    const path = dataFolder({ 'a.jsonl': Buffer.from(lines({ question: 'Qué?', answer: 'Así.' }), 'latin1') })
    expect(texts(await prepare(path, { encoding: 'windows-1252' }))).toEqual(['Qué? Así.'])
  })

  it('reads an input in the way that is said for it, and the others in their own', async () => {
    const path = dataFolder({
      'a.jsonl': lines(pair('one')),
      'latin.jsonl': Buffer.from(lines({ question: 'Qué?', answer: 'Así.' }), 'latin1'),
      'log.json': {
        log: [
          { who: 'client', what: 'Hm.' },
          { who: 'therapist', what: 'Yes?' },
        ],
      },
      'notes.json': [{ role: 'client', content: 'Odd fields.', reply: 'Indeed.' }],
    })
    const roles = { client: 'user', therapist: 'assistant' } as const
    const own: DataInput[] = [
      path,
      { path: join(path, 'latin.jsonl'), encoding: 'latin1' },
      { path: join(path, 'log.json'), mapping: { turns: 'log', role: 'who', content: 'what', roles } },
      { path: join(path, 'notes.json'), mapping: { user: 'content', assistant: 'reply' } },
    ]
    const cacheDir = `${path}-cache`
    const data = await prepare(path, { duplicates: 'exact' }, { inputs: own, cacheDir })
    const expected = [
      'What about number one? It is a fine number, one.',
      'Qué? Así.',
      'Hm. Yes?',
      'Odd fields. Indeed.',
    ]
    expect(texts(data)).toEqual(expected)
    expect(data.report.files.map(({ formats }) => Object.keys(formats)[0])).toEqual([
      'question-answer',
      'question-answer',
      'mapping',
      'mapping',
    ])
    const { manifest } = data
    expect(texts(await prepare(path, { duplicates: 'exact' }, { inputs: own, cacheDir, manifest }))).toEqual(expected)
    // Without the readings the cache must not answer, and the run is another one.
    expect((await prepare(path, { duplicates: 'exact' }, { cacheDir })).report.totals.used).toBe(1)
    await expect(prepare(path, { duplicates: 'exact' }, { manifest })).rejects.toThrow(/had other data/)
    const turns: string[] = []
    for await (const conversation of new ConversationReader().read(own)) turns.push(conversation.turns[0].content)
    expect(turns).toEqual(['What about number one?', 'Qué?', 'Hm.', 'Odd fields.'])
  })

  it('names every input that is described wrongly', async () => {
    const inputs = ['a', { path: 'b', format: 'alpacca' }, { path: '', encoding: 'latin-17' }] as DataInput[]
    await expect(prepareDataset({ inputs, tokenizer })).rejects.toThrow(
      /^data: inputs\.1\.format: .*; inputs\.2\.encoding: is not a known encoding; inputs\.2\.path: /,
    )
    const mapped = [{ path: 'b', mapping: { user: 'a', assistant: 'b' } }]
    await expect(preparePreferences({ inputs: mapped, tokenizer })).rejects.toThrow(
      /^data: inputs\.0\.mapping: must name prompt, chosen and rejected$/,
    )
  })

  it('stops at a broken file where strict is set', async () => {
    const path = dataFolder({ 'a.json': [pair(1)], 'b.json': '[{' })
    await expect(prepare(path, { strict: true })).rejects.toThrow(
      /1 of 2 files cannot be used.*b\.json, ends in the middle/,
    )
  })

  it('removes exact and near duplicates, and keeps other answers to the same question', async () => {
    const question =
      'Since my brother moved away I eat alone every evening and the flat feels too quiet. What can I do about it?'
    const answer =
      'Quiet rooms can feel like proof that nobody is coming. Which evening of the week is the hardest for you, and who might you ask to share that one meal?'
    const path = dataFolder({
      'a.json': [
        { question, answer },
        { question: `  ${question.replace(' and ', '  and\n')}`, answer },
        { question, answer: answer.replace('hardest', 'heaviest') },
        {
          question,
          answer:
            'You could start a small ritual: music while cooking, a candle, a call with him on Sundays. What did you two eat together?',
        },
        {
          question:
            'My neighbour plays loud music at night and I am afraid to knock at the door. How do I begin such a talk?',
          answer,
        },
      ],
    })
    expect((await prepare(path)).report.totals).toMatchObject({ used: 3, duplicates: { exact: 1, near: 1 } })
    expect((await prepare(path, { duplicates: 'exact' })).report.totals).toMatchObject({ used: 4 })
    expect((await prepare(path, { duplicates: 'keep' })).report.totals).toMatchObject({ used: 5 })
  })

  it('does not count what a broken file held as seen', async () => {
    const path = dataFolder({ 'a.json': JSON.stringify([pair(1), pair(2)]).slice(0, -1), 'b.json': [pair(1), pair(2)] })
    const data = await prepare(path, { duplicates: 'exact' })
    expect(statuses(data)).toEqual(['truncated', 'used'])
    expect(data.report.totals.used).toBe(2)
    expect(data.train.length).toBe(2)
    expect(data.train.tokens).toBe(Array.from(data.train).reduce((sum, { inputIds }) => sum + inputIds.length, 0))
  })

  it('refuses options that make no sense, all at once', async () => {
    const options = { maxLength: 0, truncation: 'up', maxLenght: 5, encoding: 'latin-17' } as unknown as DataOptions
    const failure = prepare(dataFolder({ 'a.json': [pair(1)] }), options)
    await expect(failure).rejects.toMatchObject({ code: 'MIRASTRAL_DATA_OPTION', exitCode: 2 })
    for (const part of ['maxLength: Too small', 'truncation: ', 'encoding: is not a known encoding', '"maxLenght"']) {
      await expect(failure).rejects.toThrow(part)
    }
    await expect(prepareDataset({ inputs: [], tokenizer })).rejects.toThrow(/at least one input/)
  })

  it('gives the same rows from a cache, which may be damaged or deleted', async () => {
    const path = dataFolder({ 'a.jsonl': lines(...Array.from({ length: 40 }, (_, i) => pair(`n${i}`)), { odd: 1 }) })
    const cacheDir = `${path}-cache`
    const plain = await prepare(path, { duplicates: 'exact' })
    const first = await prepare(path, { duplicates: 'exact' }, { cacheDir })
    const second = await prepare(path, { duplicates: 'exact' }, { cacheDir })
    for (const data of [first, second]) {
      expect(Array.from(data.train)).toEqual(Array.from(plain.train))
      expect(data.report).toEqual(plain.report)
      expect(data.manifest).toEqual(plain.manifest)
    }
    const [name] = readdirSync(cacheDir)
    const bytes = readFileSync(join(cacheDir, name))
    bytes[bytes.length - 3] ^= 1
    writeFileSync(join(cacheDir, name), bytes)
    const third = await prepare(path, { duplicates: 'exact' }, { cacheDir })
    expect(Array.from(third.train)).toEqual(Array.from(plain.train))
    rmSync(cacheDir, { recursive: true })
    expect(Array.from(third.train)).toEqual(Array.from(plain.train))
    for (const data of [first, second, third]) data.close()
  })

  it('keeps the cache of other options apart', async () => {
    const path = dataFolder({ 'a.jsonl': lines(pair(1)) })
    const cacheDir = `${path}-cache`
    const long = await prepare(path, {}, { cacheDir })
    const short = await prepare(path, { maxLength: 20, truncation: 'right' }, { cacheDir })
    expect(long.train.get(0).inputIds.length).toBe(24)
    expect(short.train.get(0).inputIds.length).toBe(20)
  })
})

describe('the ledger in prepareDataset', () => {
  const open = (path: string): Promise<Ledger> => Ledger.open(join(path, 'state', 'processed_files.jsonl'))

  async function run(path: string, commit = true): Promise<PreparedData> {
    const ledger = await open(path)
    const data = await prepare(path, {}, { ledger })
    if (commit) await data.commit({ steps: [1, 7], adapter: 'v1' })
    await ledger.close()
    return data
  }

  it('reads a file once, whatever its name, and again when it has changed, without what was in it before', async () => {
    const path = dataFolder({ 'a.jsonl': lines(pair('alpha'), pair('beta')), 'b.json': [pair('gamma')] })
    expect(texts(await run(path))).toHaveLength(3)
    renameSync(join(path, 'b.json'), join(path, 'c.json'))
    expect((await run(path)).train.length).toBe(0)
    appendFileSync(join(path, 'a.jsonl'), lines({ question: 'Something else entirely?', answer: 'Quite so.' }))
    const third = await run(path)
    expect(texts(third)).toEqual(['Something else entirely? Quite so.'])
    expect(third.report.files.map(({ status, duplicates }) => ({ status, ...duplicates }))).toEqual([
      { status: 'used', exact: 2, near: 0 },
      { status: 'processed', exact: 0, near: 0 },
    ])
    const ledger = await Ledger.read(join(path, 'state/processed_files.jsonl'))
    expect(ledger.entries.map(({ rows, steps, adapter }) => ({ used: rows.used, steps, adapter }))).toEqual([
      { used: 2, steps: [1, 7], adapter: 'v1' },
      { used: 1, steps: [1, 7], adapter: 'v1' },
      { used: 1, steps: [1, 7], adapter: 'v1' },
    ])
  })

  it('forgets nothing and records nothing without a commit', async () => {
    const path = dataFolder({ 'a.json': [pair(1)] })
    expect((await run(path, false)).train.length).toBe(1)
    expect((await run(path, false)).train.length).toBe(1)
  })

  it('tries a failed file again', async () => {
    const path = dataFolder({ 'a.json': '[{"question"' })
    expect(statuses(await run(path))).toEqual(['truncated'])
    expect((await Ledger.read(join(path, 'state/processed_files.jsonl'))).entries[0]).toMatchObject({
      ...{ status: 'failed', problem: 'truncated', steps: null, adapter: null },
    })
    writeFileSync(join(path, 'a.json'), JSON.stringify([pair(1)]))
    expect((await run(path)).train.length).toBe(1)
  })

  it('makes the same rows again for a run that is resumed, whatever has been added since', async () => {
    const path = dataFolder({ 'b.json': [pair('one'), pair('two')], 'd.json': [pair('three')] })
    const first = await run(path, false)
    writeFileSync(join(path, 'a.json'), JSON.stringify([pair('newer')]))
    renameSync(join(path, 'b.json'), join(path, 'z.json'))
    const ledger = await open(path)
    const resumed = await prepare(path, {}, { ledger, manifest: first.manifest })
    expect(Array.from(resumed.train)).toEqual(Array.from(first.train))
    expect(statuses(resumed)).toEqual(['later', 'used', 'used'])
    writeFileSync(join(path, 'd.json'), JSON.stringify([pair('changed')]))
    const failure = prepare(path, {}, { ledger, manifest: first.manifest })
    await expect(failure).rejects.toMatchObject({ code: 'MIRASTRAL_DATA_CHANGED' })
    await expect(failure).rejects.toThrow(/1 input files are gone or were changed \(first: .*d\.json\)/)
    const other = prepare(path, { maxLength: 64 }, { ledger, manifest: resumed.manifest })
    await expect(other).rejects.toThrow(/the data options/)
    await ledger.close()
  })

  it('reports a file that may not be read', async () => {
    const path = dataFolder({ 'a.json': [pair(1)], 'b.json': [pair(2)] })
    chmodSync(join(path, 'a.json'), 0)
    const isRoot = process.getuid?.() === 0
    expect(statuses(await run(path))).toEqual([isRoot ? 'used' : 'unreadable', 'used'])
  })
})

describe('the split', () => {
  const words = fc.array(fc.constantFrom('sun', 'rain', 'wind', 'snow', 'fog', 'hail', 'storm'), {
    minLength: 4,
    maxLength: 9,
  })
  const records = fc.array(
    fc.record({ question: words.map((w) => w.join(' ')), answer: words.map((w) => w.join(' ')) }),
    { minLength: 1, maxLength: 30 },
  )

  it('never moves a conversation to the other side, nor puts answers to one question on two (property)', async () => {
    await fc.assert(
      fc.asyncProperty(records, async (list) => {
        const options: DataOptions = { evalFraction: 0.4, duplicates: 'keep' }
        const sides = async (some: object[]): Promise<{ train: Set<string>; eval: Set<string> }> => {
          const data = await prepare(dataFolder({ 'a.json': some }), options)
          const questions = (rows: PreparedData['train']): Set<string> =>
            new Set(
              Array.from(rows, ({ inputIds, labels }) => tokenizer.decode(inputIds.filter((_, i) => labels[i] < 0))),
            )
          return { train: questions(data.train), eval: questions(data.eval) }
        }
        const all = await sides(list)
        const fewer = await sides(list.slice(0, Math.ceil(list.length / 2)).reverse())
        expect([...all.train].filter((question) => all.eval.has(question))).toEqual([])
        for (const question of fewer.train) expect(all.train.has(question)).toBe(true)
        for (const question of fewer.eval) expect(all.eval.has(question)).toBe(true)
      }),
      { numRuns: 25, seed: 6 },
    )
  })

  it('keeps a conversation on its side as it grows', async () => {
    const opening = Array.from({ length: 60 }, (_, i) => `This is how conversation number ${i} begins, at some length.`)
    const grown = (turns: number) =>
      opening.map((text) => ({
        messages: Array.from({ length: turns * 2 }, (_, i) => ({
          ...{ role: i % 2 === 0 ? 'user' : 'assistant', content: i === 0 ? text : `turn ${i}` },
        })),
      }))
    const evalOpenings = async (turns: number): Promise<string[]> => {
      const data = await prepare(dataFolder({ 'a.json': grown(turns) }), { evalFraction: 0.3, duplicates: 'exact' })
      return Array.from(data.eval, ({ inputIds }) => /number \d+/.exec(tokenizer.decode(inputIds))?.[0] ?? '')
    }
    const short = await evalOpenings(1)
    expect(short.length).toBeGreaterThan(5)
    expect(short.length).toBeLessThan(35)
    expect(await evalOpenings(3)).toEqual(short)
  })
})
