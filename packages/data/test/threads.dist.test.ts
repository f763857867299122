import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, readFileSync, readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { describe, expect, it } from 'vitest'
import { ChatTokenizer, Ledger, prepareDataset } from '@mirastral/data'
import { fixture, temporaryFolder } from './fixtures.js'

const folder = temporaryFolder()
const dist = (name: string): string => fileURLToPath(new URL(`../dist/${name}`, import.meta.url))
const tokenizer = fixture('tokenizers/mistral-v3')

async function run(script: string, ...args: string[]): Promise<{ code: number | null; out: string; err: string }> {
  const child = spawn(process.execPath, [script, ...args])
  let out = ''
  let err = ''
  child.stdout.on('data', (chunk: Buffer) => (out += chunk.toString()))
  child.stderr.on('data', (chunk: Buffer) => (err += chunk.toString()))
  const [code] = (await once(child, 'close')) as [number | null]
  return { code, out, err }
}

describe('worker threads', () => {
  it('make the same rows, report and manifest as the calling thread, in the same order', async () => {
    const path = join(folder, 'data')
    mkdirSync(path)
    const words = (n: number): string => `I slept ${'badly again and '.repeat(n % 23)} ${n}`
    const lines = Array.from({ length: 3000 }, (_, i) =>
      i % 97 === 0 ? '{broken' : JSON.stringify({ question: words(i), answer: words(i % 700) }),
    )
    writeFileSync(join(path, 'a.jsonl'), lines.join('\n'))
    writeFileSync(join(path, 'b.json'), JSON.stringify(lines.slice(1, 50).map((line) => JSON.parse(line) as object)))
    writeFileSync(
      join(path, 'c.csv'),
      `question,answer\n${Array.from({ length: 300 }, (_, i) => `q${i},a${i}`).join('\n')}\n`,
    )
    const prepare = (threads: number) =>
      prepareDataset({ inputs: [path], tokenizer, options: { threads, maxLength: 96 } })
    const [inline, threaded] = [await prepare(0), await prepare(3)]
    expect(threaded.report).toEqual(inline.report)
    expect(threaded.manifest).toEqual(inline.manifest)
    expect(Array.from(threaded.train)).toEqual(Array.from(inline.train))
    expect(Array.from(threaded.eval)).toEqual(Array.from(inline.eval))
    expect(inline.report.totals.dropped['invalid-json']).toBe(31)
  })

  it('end with a clear error where the tokenizer cannot be used', async () => {
    const path = join(folder, 'one.json')
    writeFileSync(path, '[{"question": "q", "answer": "a"}]')
    const odd = join(folder, 'odd')
    mkdirSync(odd)
    for (const name of readdirSync(tokenizer)) writeFileSync(join(odd, name), readFileSync(join(tokenizer, name)))
    const loaded = await ChatTokenizer.fromFolder(odd)
    writeFileSync(join(odd, 'tokenizer.json'), '{}')
    await expect(prepareDataset({ inputs: [path], tokenizer: loaded, options: { threads: 1 } })).rejects.toThrow(
      /tokenizer: .*odd.tokenizer\.json is not a tokenizer file/,
    )
  })
})

describe('a run that is killed while it writes the ledger', () => {
  it('leaves whole lines, and a lock that the next run takes over', async () => {
    const path = join(folder, 'killed', 'processed_files.jsonl')
    const script = join(folder, 'write.mjs')
    writeFileSync(
      script,
      `import { Ledger } from ${JSON.stringify(dist('index.js'))}
const ledger = await Ledger.open(process.argv[2])
process.stdout.write('open\\n')
for (let i = 0; ; i++) {
  const entry = { version: 1, status: 'processed', path: '/' + 'x'.repeat(i % 5000), size: i, sha256: null, time: '', formats: {},
    rows: { read: 0, used: 0, dropped: {}, duplicates: { exact: 0, near: 0 } }, steps: null, adapter: null }
  await ledger.append([entry, entry])
}`,
    )
    let before = 0
    for (let round = 0; round < 5; round++) {
      const child = spawn(process.execPath, [script, path])
      await once(child.stdout, 'data')
      await new Promise((resolve) => setTimeout(resolve, 20 + round * 17))
      child.kill('SIGKILL')
      await once(child, 'close')
      const ledger = await Ledger.open(path)
      expect(ledger.found.badLines).toBe(0)
      expect(ledger.entries.length).toBeGreaterThanOrEqual(before)
      before = ledger.entries.length
      await ledger.close()
      expect(readFileSync(path, 'utf8').endsWith('\n')).toBe(true)
    }
    expect(before).toBeGreaterThan(0)
  })

  it('keeps a second run out while it lives', async () => {
    const path = join(folder, 'busy', 'processed_files.jsonl')
    const ledger = await Ledger.open(path)
    const { code, out, err } = await run(dist('ledger-cli.js'), 'import', path, fixture('pickles/list-5.pkl'))
    expect({ code, out }).toEqual({ code: 2, out: '' })
    expect(err).toMatch(/^ledger: process \d+ on .* holds .*processed_files\.jsonl\.lock; wait for that run/)
    await ledger.close()
  })
})

describe('mirastral-ledger', () => {
  it('imports a pickle and tells how files stand', async () => {
    const data = join(folder, 'cli')
    mkdirSync(join(data, 'worker1'), { recursive: true })
    writeFileSync(join(data, 'worker1/a.json'), '[]')
    writeFileSync(join(data, 'worker1/b.json'), '[1]')
    const path = join(folder, 'cli-state', 'processed_files.jsonl')
    const imported = await run(dist('ledger-cli.js'), 'import', path, fixture('pickles/set-2.pkl'), '--base', data)
    expect(imported).toEqual({
      code: 0,
      out: '2 paths: 2 imported (1 of them no longer exist), 0 known already\n',
      err: '',
    })
    const status = await run(dist('ledger-cli.js'), 'status', path, data)
    expect(status.out.split('\n')).toEqual([
      `${path}: 2 entries`,
      `processed\t${join(data, 'worker1/a.json')}`,
      `new\t${join(data, 'worker1/b.json')}`,
      '1 processed, 1 new, 0 changed, 0 failed',
      '',
    ])
    const listed = await run(dist('ledger-cli.js'), 'status', path)
    expect(listed.out).toContain(`imported\t`)
  })

  it('explains itself, with exit code 2 for what the user can put right', async () => {
    const nothing = await run(dist('ledger-cli.js'))
    expect([nothing.code, nothing.err]).toEqual([
      2,
      expect.stringMatching(/must be given\nusage: mirastral-ledger status/),
    ])
    const unknown = await run(dist('ledger-cli.js'), 'status', 'x', '--colour')
    expect([unknown.code, unknown.err]).toEqual([2, expect.stringMatching(/Unknown option '--colour'/)])
    expect((await run(dist('ledger-cli.js'), '--help')).code).toBe(0)
  })
})
