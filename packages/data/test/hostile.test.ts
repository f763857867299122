import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { ChatTokenizer, formatReport, prepareDataset } from '@mirastral/data'
import { describe, expect, it } from 'vitest'
import { chat, fixture, loadTokenizer, temporaryFolder } from './fixtures.js'

const folder = temporaryFolder()
const MILLION = 1_000_000

/** Texts on which a careless pattern takes the square of their length, or overflows a stack. */
const TEXTS: Record<string, string> = {
  letters: 'a'.repeat(MILLION),
  spaces: `x${' '.repeat(MILLION - 2)}x`,
  'line ends': `x${'\n'.repeat(MILLION - 2)}x`,
  digits: '1'.repeat(MILLION),
  'digits and spaces': '12 '.repeat(MILLION / 3),
  'a web address': `https://x.example/?${'token'.repeat(MILLION / 6)}`,
  'an almost secret address': `https://x.example/${'A-'.repeat(MILLION / 3)}`,
  'at signs': 'a@'.repeat(MILLION / 2),
  markers: '[INST] '.repeat(MILLION / 8),
  transcript: 'Human: '.repeat(MILLION / 8),
  specials: '<s></s>'.repeat(MILLION / 8),
  'lower blocks': '▁'.repeat(MILLION),
  emoji: '🙂'.repeat(MILLION / 3),
}

describe('hostile input', () => {
  it.each(Object.entries(TEXTS))('a million of %s are read like anything else', async (name, text) => {
    const path = join(folder, `${name}.jsonl`)
    const records = [{ text }, { question: text, answer: text }, { messages: [{ role: 'user', content: text }] }]
    writeFileSync(path, records.map((record) => JSON.stringify(record)).join('\n'))
    const data = await prepareDataset({
      inputs: [path],
      tokenizer: await loadTokenizer('mistral-v3'),
      options: { redact: { names: ['Anna'] }, truncation: 'right' },
    })
    expect(data.report.totals.read).toBe(3)
    expect(data.report.totals.dropped['nothing-to-train-on']).toBe(1)
  })

  it('a million brackets in a line, or inside a record, cost that record only', async () => {
    const path = join(folder, 'deep')
    mkdirSync(path)
    const deep = `${'['.repeat(MILLION)}${']'.repeat(MILLION)}`
    const good = JSON.stringify({ question: 'q', answer: 'a' })
    const nested = `{"question": "q", "answer": "a", "note": ${deep}}`
    const call = `{"messages": [{"role": "user", "content": "u"}, {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": {"a": ${deep}}}}]}]}`
    writeFileSync(join(path, 'a.jsonl'), [deep, good, call].join('\n'))
    writeFileSync(join(path, 'b.json'), `[${nested}, ${good.replace('"q"', '"r"')}]`)
    const data = await prepareDataset({ inputs: [path], tokenizer: await loadTokenizer('mistral-v3') })
    expect(data.report.files.map(({ used, dropped }) => ({ used, dropped }))).toEqual([
      { used: 1, dropped: { 'not-an-object': 1, 'too-deep': 1 } },
      { used: 1, dropped: { 'too-deep': 1 } },
    ])
  })

  it('keys of JavaScript objects are fields like any others', async () => {
    const path = join(folder, 'keys.jsonl')
    const lines = [
      '{"__proto__": {"question": "q"}, "answer": "a"}',
      '{"constructor": "q", "question": "q", "answer": "a"}',
      '{"messages": [{"role": "__proto__", "content": "c"}]}',
      '{"conversations": [{"from": "constructor", "value": "v"}]}',
    ]
    writeFileSync(path, lines.join('\n'))
    const data = await prepareDataset({ inputs: [path], tokenizer: await loadTokenizer('mistral-v3') })
    expect(data.report.totals).toMatchObject({ used: 1, dropped: { 'unknown-format': 1, 'unknown-role': 2 } })
  })

  it.each([
    ['tokenizer.json', '{"model": 5}', /tokenizer\.json is not a tokenizer file: model: /],
    ['tokenizer.json', 'no JSON', /tokenizer\.json must be a JSON object/],
    ['tokenizer_config.json', '[]', /not a tokenizer file|no chat template|must name an eos_token/],
    ['tokenizer_config.json', '{"eos_token": "</s>"}', /the folder has no chat template/],
    ['tokenizer_config.json', '{"chat_template": "x"}', /must name an eos_token of the vocabulary/],
    ['tokenizer_config.json', '{"chat_template": "{% if %}", "eos_token": "</s>"}', /not valid Jinja/],
  ])('a tokenizer whose %s is %s is refused with the reason', async (name, content, reason) => {
    const path = join(folder, `tokenizer${Math.random()}`)
    mkdirSync(path)
    for (const file of ['tokenizer.json', 'tokenizer_config.json']) {
      writeFileSync(join(path, file), readFileSync(join(fixture('tokenizers/mistral-v3'), file)))
    }
    writeFileSync(join(path, name), content)
    await expect(ChatTokenizer.fromFolder(path)).rejects.toThrow(reason)
    await expect(ChatTokenizer.fromFolder(path)).rejects.toMatchObject({
      code: 'MIRASTRAL_DATA_TOKENIZER',
      exitCode: 2,
    })
  })

  it('a tokenizer that puts spaces after special tokens is used, and spoken of', async () => {
    const path = join(folder, 'note.jsonl')
    writeFileSync(path, '{"question": "q", "answer": "a"}')
    const tokenizer = await loadTokenizer('legacy')
    const data = await prepareDataset({ inputs: [path], tokenizer })
    expect(data.report.notes).toHaveLength(1)
    expect(formatReport(data.report)).toContain('note: tokenizer.json puts a space after every special token')
    expect((await loadTokenizer('mistral-v3')).notes).toEqual([])
    expect(tokenizer.decode(tokenizer.encodeConversation(chat('q', 'a')).inputIds).trim()).toBe('[INST] q [/INST] a')
  })
})
