import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { ChatTokenizer, DataOptions, PreferenceConversation, TokenizedExample, Turn } from '@mirastral/data'
import {
  ConversationReader,
  Ledger,
  fitPair,
  formatReport,
  preflight,
  prepareDataset,
  preparePreferences,
} from '@mirastral/data'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { fixture, golden, loadTokenizer, temporaryFolder } from './fixtures.js'

const folder = temporaryFolder()
const tokenizer = await loadTokenizer('mistral-v3')
let files = 0

function write(...records: unknown[]): string {
  const path = join(folder, `pairs${files++}.jsonl`)
  writeFileSync(path, records.map((record) => `${JSON.stringify(record)}\n`).join(''))
  return path
}

const prepare = (path: string, options: DataOptions = {}): ReturnType<typeof preparePreferences> =>
  preparePreferences({ inputs: [path], tokenizer, options: { evalFraction: 0, ...options } })

const user = (content: string): object => ({ role: 'user', content })
const assistant = (content: string): object => ({ role: 'assistant', content })
const textOf = ({ inputIds }: TokenizedExample): string => tokenizer.decode(inputIds)
const trainedText = ({ labels }: TokenizedExample): string => tokenizer.decode(labels.filter((label) => label >= 0))

interface Golden {
  tokenizer: string
  template: string
  case: string
  record: object
  max_length: number | null
  rows: { ids: number[]; mask: number[] }[] | null
}

describe('preparePreferences', () => {
  it.each(golden<Golden[]>('preferences').map((row) => [row.template, row.case, row.max_length, row] as const))(
    'makes the tokens of TRL’s DPOTrainer: %s, %s, at most %s tokens',
    async (template, _case, max, row) => {
      const chatTemplate = readFileSync(fixture(`templates/${template}.jinja`), 'utf8')
      const loaded = await loadTokenizer(row.tokenizer, { chatTemplate, rules: 'transformers' })
      const data = await preparePreferences({
        inputs: [write(row.record)],
        tokenizer: loaded,
        options: { evalFraction: 0, maxLength: max ?? 4096, truncation: 'right' },
      })
      const rows = [...data.train].flatMap(({ chosen, rejected }) => [chosen, rejected])
      expect(rows.length).toBe(row.rows?.length ?? 0)
      rows.forEach(({ inputIds, labels }, i) => {
        const { ids, mask } = row.rows?.[i] ?? { ids: [], mask: [] }
        expect(Array.from(inputIds)).toEqual(ids)
        // TRL also trains on the white space that some templates put after the end of a turn.
        expect(Array.from(labels, (label) => (label >= 0 ? 1 : 0))).toEqual(withoutTail(loaded, ids, mask))
      })
    },
  )

  it('reads prompts that are named, shared, or transcripts, in every kind of file, and trains on the answer only', async () => {
    const path = write(
      { prompt: 'Why?', chosen: 'Tell me more.', rejected: 'Because.' },
      {
        chosen: [user('Hm'), assistant('Yes?'), user('So.'), assistant('Go on.')],
        rejected: [user('Hm'), assistant('Yes?'), user('So.'), assistant('No.')],
      },
      { chosen: '\n\nHuman: Hi\n\nAssistant: Hello.', rejected: '\n\nHuman: Hi\n\nAssistant: Bye.' },
    )
    const data = await prepare(path, { duplicates: 'keep' })
    expect(
      [...data.train].map(({ chosen, rejected }) => [textOf(chosen), trainedText(chosen), trainedText(rejected)]),
    ).toEqual([
      ['Why? Tell me more.', 'Tell me more.', 'Because.'],
      ['Hm Yes? So. Go on.', 'Go on.', 'No.'],
      ['Hi Hello.', 'Hello.', 'Bye.'],
    ])
    expect(data.report).toMatchObject({ kind: 'pairs', totals: { read: 3, used: 3 }, train: { examples: 3 } })
    expect(formatReport(data.report)).toContain('3 records: 3 preference pairs used')
    expect(preflight(data)).toMatchObject({ rows: 6, failures: {} })
    const first = data.train.get(0)
    expect(data.train.lengthOf(0)).toBe(Math.max(first.chosen.inputIds.length, first.rejected.inputIds.length))
    expect(() => data.train.get(3)).toThrow(RangeError)
  })

  it('leaves records out that are no pair one can learn from, each by its rule', async () => {
    const broken: [object, string][] = [
      [{ question: 'q', answer: 'a' }, 'not-a-pair'],
      [{ prompt: 'p', chosen: 'same  text', rejected: 'same text' }, 'same-answers'],
      [{ chosen: [user('u'), assistant('a')], rejected: [user('u'), assistant('a')] }, 'same-answers'],
      [{ prompt: [user('u'), assistant('a')], chosen: 'b', rejected: 'c' }, 'prompt-not-open'],
      [{ prompt: '', chosen: 'b', rejected: 'c' }, 'prompt-not-open'],
      [{ chosen: [user('u'), assistant('a')], rejected: [user('v'), assistant('a')] }, 'prompt-not-open'],
      [{ prompt: 'p', chosen: 'b', rejected: ' ' }, 'nothing-to-train-on'],
      [{ prompt: 'p', chosen: [assistant('b'), user('c')], rejected: [user('p')] }, 'nothing-to-train-on'],
      [{ prompt: 'p', chosen: 'b', rejected: 5 }, 'invalid-shape'],
      [
        {
          prompt: 'p',
          chosen: [
            { role: 'assistant', content: 'b' },
            { role: 'system', content: 's' },
          ],
          rejected: 'c',
        },
        'invalid-shape',
      ],
      [{ prompt: 'p', chosen: 'b', rejected: 'c\ud800' }, 'lone-surrogate'],
      [{ prompt: 'p', chosen: 'word '.repeat(20), rejected: 'c' }, 'too-long'],
    ]
    const path = write(...broken.map(([record]) => record))
    const dropped: string[] = []
    const data = await prepare(path, { truncation: 'drop', maxLength: 24 })
    const reader = new ConversationReader({ onDrop: (_path, { rule }) => dropped.push(rule) })
    const read: PreferenceConversation[] = []
    for await (const pair of reader.readPreferences([path])) read.push(pair)
    expect(dropped).toEqual(broken.map(([, rule]) => rule).filter((rule) => rule !== 'too-long'))
    expect(read.map(({ source }) => source.record)).toEqual([broken.length - 1])
    const expected: Record<string, number> = {}
    for (const [, rule] of broken) expected[rule] = (expected[rule] ?? 0) + 1
    expect(data.report.totals.dropped).toEqual(expected)
    expect(data.report.files[0].problem).toBe('nothing-usable')
  })

  it('drops a pair that redaction or truncation has made equal', async () => {
    const path = write(
      { prompt: 'Whom do I call?', chosen: 'Write to a@example.org', rejected: 'Write to b@example.org' },
      { prompt: 'And then?', chosen: `${'so '.repeat(30)}good`, rejected: `${'so '.repeat(30)}bad` },
    )
    const data = await prepare(path, { redact: true, truncation: 'right', maxLength: 16 })
    expect(data.report.totals.dropped).toEqual({ 'same-answers': 1, 'truncated-away': 1 })
  })

  it('takes the oldest exchanges out of the prompt, the same ones for both answers', () => {
    const turns = ['One?', 'First.', 'Two?', 'Second.', 'Three?'].map((content, i): Turn => ({
      role: i % 2 === 0 ? 'user' : 'assistant',
      content,
    }))
    const pair: PreferenceConversation = {
      prompt: [{ role: 'system', content: 'Be brief.' }, ...turns],
      chosen: [{ role: 'assistant', content: 'A rather long third answer it is.' }],
      rejected: [{ role: 'assistant', content: 'No.' }],
      source: { fileHash: '', record: 0 },
    }
    const whole = fitPair(tokenizer, pair, { maxLength: 512 })
    expect(whole.changed).toBe('no')
    const lengths = (whole.pair?.chosen.inputIds.length ?? 0) - 1
    const { pair: shorter, changed } = fitPair(tokenizer, pair, { maxLength: lengths })
    expect(changed).toBe('shortened')
    expect(shorter === null ? '' : [textOf(shorter.chosen), textOf(shorter.rejected)]).toEqual([
      'Two? Second. Be brief.\n\nThree? A rather long third answer it is.',
      'Two? Second. Be brief.\n\nThree? No.',
    ])
    expect(fitPair(tokenizer, pair, { maxLength: 8 })).toEqual({ pair: null, changed: 'cut' })
  })

  it('has a mapping for fields of other names, and refuses what is not for pairs', async () => {
    const mapping = { prompt: 'q.text', chosen: 'response_j', rejected: 'response_k' }
    const path = write({ q: { text: 'Why?' }, response_j: 'Tell me.', response_k: 'No.' })
    const data = await prepare(path, { mapping })
    expect(data.report.totals).toMatchObject({ used: 1, dropped: {} })
    const sft = await prepareDataset({ inputs: [path], tokenizer, options: { evalFraction: 0, mapping } })
    expect(trainedText(sft.train.get(0))).toBe('Tell me.')
    await expect(prepare(path, { truncation: 'split', format: 'alpaca' })).rejects.toThrow(
      /format: alpaca has no chosen.*; truncation: a preference pair cannot be split/,
    )
    await expect(prepare(path, { mapping: { user: 'q', assistant: 'r' } })).rejects.toMatchObject({ exitCode: 2 })
  })

  it('removes copies of a pair, and keeps the same answers the other way round', async () => {
    const prompt =
      'Since my brother moved away I eat alone every evening and the flat feels too quiet. What can I do about it?'
    const one =
      'Quiet rooms can feel like proof that nobody is coming. Which evening of the week is the hardest for you, and who might you ask to share that one meal?'
    const two =
      'You should simply find other people to eat with, because being alone is unhealthy and you know that very well, so stop complaining about it now.'
    const path = write(
      { prompt, chosen: one, rejected: two },
      { prompt: [user(` ${prompt}`)], chosen: [assistant(one)], rejected: [assistant(two)] },
      { prompt, chosen: one, rejected: two.replace('simply', 'just') },
      { prompt, chosen: two, rejected: one },
      { prompt, chosen: one, rejected: 'Eat faster.' },
    )
    expect((await prepare(path)).report.totals).toMatchObject({ used: 3, duplicates: { exact: 1, near: 1 } })
  })

  it('never has one prompt on both sides of the split', async () => {
    const prompts = fc.array(fc.integer({ min: 0, max: 30 }), { minLength: 1, maxLength: 60 })
    await fc.assert(
      fc.asyncProperty(prompts, fc.integer({ min: 0, max: 5 }), async (numbers, splitSeed) => {
        const path = write(
          ...numbers.map((n, i) => ({
            prompt: `What is number ${n}?`,
            chosen: `It is ${i}.`,
            rejected: `It is not ${i}.`,
          })),
        )
        const data = await prepare(path, { evalFraction: 0.4, splitSeed, duplicates: 'exact' })
        const promptOf = ({ chosen }: { chosen: TokenizedExample }): string => textOf(chosen).split('?')[0]
        const held = new Set([...data.eval].map(promptOf))
        expect([...data.train].map(promptOf).filter((prompt) => held.has(prompt))).toEqual([])
        expect(data.train.length + data.eval.length).toBe(numbers.length)
      }),
      { numRuns: 20 },
    )
  })

  it('keeps a ledger, a cache and a manifest as conversations do', async () => {
    const path = join(folder, 'kept')
    mkdirSync(path)
    const lines = Array.from({ length: 30 }, (_, i) =>
      JSON.stringify({ prompt: `What about number ${i}?`, chosen: `Number ${i} is fine.`, rejected: `Forget ${i}.` }),
    )
    writeFileSync(join(path, 'a.jsonl'), lines.join('\n'))
    const ledger = await Ledger.open(join(folder, 'ledger', 'processed_files.jsonl'))
    const request = {
      ...{ inputs: [path], tokenizer, ledger, cacheDir: join(folder, 'cache') },
      options: { duplicates: 'exact' as const, evalFraction: 0.3 },
    }
    const first = await preparePreferences(request)
    const second = await preparePreferences({ ...request, manifest: first.manifest })
    expect([...second.train]).toEqual([...first.train])
    expect([...second.eval]).toEqual([...first.eval])
    // What is kept for pairs is never taken for conversations.
    const chosen = await prepareDataset({ ...request, options: { ...request.options, evalFraction: 0 } })
    expect(chosen.train.length).toBe(30)
    await first.commit()
    expect((await preparePreferences(request)).report.files.map(({ status }) => status)).toEqual(['processed'])
    expect(ledger.entries[0].rows).toEqual({ read: 30, used: 30, dropped: {}, duplicates: { exact: 0, near: 0 } })
    await ledger.close()
    for (const data of [first, second, chosen]) data.close()
  })
})

function withoutTail(loaded: ChatTokenizer, ids: readonly number[], mask: readonly number[]): number[] {
  const end = ids.findLastIndex((id, i) => mask[i] === 1 && loaded.tokenText(id).trim() !== '')
  return mask.map((flag, i) => (i > end ? 0 : flag))
}
