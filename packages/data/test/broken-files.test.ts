import { spawnSync } from 'node:child_process'
import { mkdirSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { gzipSync } from 'node:zlib'
import type { DataOptions, FileReport } from '@mirastral/data'
import { formatReport, prepareDataset } from '@mirastral/data'
import { describe, expect, it } from 'vitest'
import { fixture, loadTokenizer, temporaryFolder } from './fixtures.js'

const folder = temporaryFolder()
const tokenizer = await loadTokenizer('mistral-v3')
const pair = (n: number): object => ({ question: `What about number ${n}?`, answer: `Number ${n} is fine.` })
const line = (n: number): string => `${JSON.stringify(pair(n))}\n`
let cases = 0

async function read(
  name: string,
  content: string | Uint8Array,
  options: DataOptions = {},
): Promise<{ texts: string[]; file: FileReport; report: string }> {
  const path = join(folder, `case${cases++}`)
  mkdirSync(path)
  writeFileSync(join(path, name), content)
  const data = await prepareDataset({ inputs: [path], tokenizer, options: { evalFraction: 0, ...options } })
  const texts = Array.from(data.train, ({ inputIds }) => tokenizer.decode(inputIds))
  return { texts, file: data.report.files[0], report: formatReport(data.report) }
}

const text = (n: number): string => `What about number ${n}? Number ${n} is fine.`

describe('files that other programs broke', () => {
  it.each([
    ['cut off', gzipSync(line(1)).subarray(0, -20)],
    ['cut off in its header', gzipSync(line(1)).subarray(0, 6)],
    ['with a wrong checksum', gzipSync(line(1)).map((byte, i, all) => (i === all.length - 6 ? byte ^ 255 : byte))],
    ['with something else after it', Buffer.concat([gzipSync(line(1)), Buffer.from('garbage')])],
  ])('a gzip file %s is left for the next run', async (_, bytes) => {
    expect((await read('a.jsonl.gz', bytes)).file).toMatchObject({ status: 'failed', problem: 'invalid-gzip', read: 0 })
  })

  it('several gzip files in one are read to the end, and zeros after them', async () => {
    const bytes = Buffer.concat([gzipSync(line(1)), gzipSync(line(2)), Buffer.alloc(512)])
    expect((await read('a.jsonl.gz', bytes)).texts).toEqual([text(1), text(2)])
  })

  it('a gzip file that grows beyond all measure is given up', async () => {
    const bomb = gzipSync(Buffer.alloc(80 << 20, ' '))
    expect((await read('a.json.gz', bomb)).file.problem).toBe('expands-too-far')
    const grown = await read('a.json.gz', bomb, { limits: { maxExpansion: 2000 } })
    expect(grown.file.problem).toBe('no-records')
  })

  it.each([
    ['UTF-16 without a mark', Buffer.from(line(1), 'utf16le')],
    ['UTF-16 the other way round', Buffer.from(`\ufeff${line(1)}`, 'utf16le').swap16()],
    ['UTF-16 the other way round, without a mark', Buffer.from(line(1), 'utf16le').swap16()],
    ['two byte order marks', Buffer.from(`\ufeff\ufeff${line(1)}`)],
    ['a byte order mark before a later line', Buffer.from(`\n\ufeff${line(1)}`)],
    ['a tail of zeros', Buffer.concat([Buffer.from(line(1)), Buffer.alloc(3000)])],
  ])('reads lines in %s', async (_, bytes) => {
    expect((await read('a.jsonl', bytes)).texts).toEqual([text(1)])
  })

  it('says that UTF-32 is not UTF-8', async () => {
    const bytes = Buffer.from(Uint32Array.from([...`\ufeff[]`], (character) => character.codePointAt(0) ?? 0).buffer)
    expect((await read('a.json', bytes)).report).toContain('is not valid UTF-8 (name its encoding')
  })

  it('takes numbers for the ids of tool calls', async () => {
    const call = { id: 7, type: 'function', function: { name: 'look', arguments: '{}' } }
    const messages = [
      { role: 'user', content: 'Look it up.' },
      { role: 'assistant', content: null, tool_calls: [call] },
      { role: 'tool', tool_call_id: 7, content: 'found' },
      { role: 'assistant', content: 'There it is.' },
    ]
    const { file, texts } = await read('a.jsonl', JSON.stringify({ id: 5, messages }))
    expect(file).toMatchObject({ used: 1, dropped: {}, adjustments: {} })
    expect(texts[0]).toMatch(/There it is\.$/)
  })

  it.each([
    ['a first line for Excel', 'sep=;\nquestion;answer\nWhat about number 1?;Number 1 is fine.\n'],
    ['spaces in its header', ' question , answer \nWhat about number 1?,Number 1 is fine.\n'],
    ['bars', 'question|answer\nWhat about number 1?|Number 1 is fine.\n'],
    ['line ends of Windows in cells', 'question,answer\r\n"What about\r\nnumber 1?",Number 1 is fine.\r\n'],
  ])('reads a table with %s', async (_, table) => {
    expect((await read('a.csv', table)).texts.map((one) => one.replace(/\s+/g, ' '))).toEqual([text(1)])
  })

  it('keeps quotes inside a cell that has none around it', async () => {
    const { file, texts } = await read('a.csv', 'question,answer\nHe said "hi" to me.,And you?\nx,y\n')
    expect([file.read, texts]).toEqual([2, ['He said "hi" to me. And you?', 'x y']])
  })

  it('gives a table up whose row is larger than a record may be', async () => {
    const table = `question,answer\na,b\n"${'x'.repeat(5000)}",c\nd,e\n`
    const { file } = await read('a.csv', table, { limits: { maxRecordBytes: 1000 } })
    expect(file).toMatchObject({ problem: 'record-too-large', used: 0 })
  })

  it('leaves a Parquet row out whose text is not UTF-8', async () => {
    const data = await prepareDataset({ inputs: [fixture('broken')], tokenizer, options: { evalFraction: 0 } })
    expect(data.report.files.map(({ used, dropped }) => ({ used, dropped }))).toEqual([
      { used: 1, dropped: { 'invalid-utf8': 1 } },
    ])
  })

  it('reads an object that wraps a hundred thousand records, and one too large to be held', async () => {
    const records = Array.from({ length: 3000 }, (_, i) => pair(i))
    const wrapped = JSON.stringify({ version: 1, data: records })
    for (const maxRecordBytes of [1 << 20, 1000]) {
      const { file } = await read('a.json', wrapped, { duplicates: 'exact', limits: { maxRecordBytes } })
      expect(file).toMatchObject({ read: 3000, used: 3000 })
    }
  })

  it('writes a name with line ends and escapes on one line', async () => {
    const { report } = await read('a\n\u001b[31m.json', '[{')
    expect(report).toContain('a\\x0a\\x1b[31m.json: ends in the middle of its JSON')
    expect(report).not.toContain('\u001b')
    await expect(prepareDataset({ inputs: ['no\nsuch'], tokenizer })).rejects.toThrow(/^data: no\\x0asuch cannot be/)
  })

  it('passes over pipes, sockets and devices that are named like data', async () => {
    const path = join(folder, 'special')
    mkdirSync(path)
    expect(spawnSync('mkfifo', [join(path, 'pipe.json')]).status).toBe(0)
    symlinkSync('/dev/zero', join(path, 'zero.json'))
    writeFileSync(join(path, 'a.jsonl'), line(1))
    const data = await prepareDataset({ inputs: [path], tokenizer, options: { evalFraction: 0 } })
    expect([data.report.ignoredFiles, data.train.length]).toEqual([2, 1])
    await expect(prepareDataset({ inputs: [join(path, 'pipe.json')], tokenizer })).rejects.toThrow(/must be a \.json/)
  })
})
