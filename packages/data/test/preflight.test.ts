import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { ChatTokenizer, DataOptions, PreparedData } from '@mirastral/data'
import { DataError, inspect, preflight, prepareDataset } from '@mirastral/data'
import { describe, expect, it } from 'vitest'
import { loadTokenizer, temporaryFolder } from './fixtures.js'

const folder = temporaryFolder()
const tokenizer = await loadTokenizer('mistral-v3')
let cases = 0

/** A question and an answer about each. */
function prepare(
  about: readonly (number | string)[],
  options: DataOptions = {},
  used: ChatTokenizer = tokenizer,
): Promise<PreparedData> {
  const path = join(folder, `case${cases++}.json`)
  const pairs = about.map((n) => ({ question: `What about number ${n}?`, answer: `It is a fine number, ${n}.` }))
  writeFileSync(path, JSON.stringify(pairs))
  return prepareDataset({ inputs: [path], tokenizer: used, options: { evalFraction: 0, ...options } })
}

describe('preflight', () => {
  it('passes the sample data and counts rows', async () => {
    const data = await prepare([1, 'two'])
    expect(preflight(data)).toEqual({ rows: 2, cutRows: 0, failures: {} })
  })

  it('counts answers that the sequence length cuts off, and accepts them', async () => {
    const data = await prepare([1], { maxLength: 20, truncation: 'right' })
    expect(preflight(data)).toMatchObject({ cutRows: 1, failures: {} })
  })

  it('names every broken rule with its count', async () => {
    const data = await prepare([1, 'two'])
    const bos = data.tokenizer.bosTokenId ?? 0
    const rows = [
      { inputIds: Int32Array.of(bos, 50, 51), labels: Int32Array.of(-100, -100, -100) },
      { inputIds: Int32Array.of(bos, bos, 51), labels: Int32Array.of(-100, -100, 51) },
    ]
    const train = Object.assign(rows, { tokens: 6, trainedTokens: 1, get: (i: number) => rows[i], lengthOf: () => 3 })
    const report = { ...data.report, totals: { ...data.report.totals, servingDiffers: 3 } }
    const failing = (): unknown => preflight({ ...data, train, report })
    expect(failing).toThrow(DataError)
    expect(failing).toThrow(
      /nothing-trained: 1 of 2 rows .*end-not-trained: 1 of 2.*bos-count: 1 of 2.*serving-differs: 3/,
    )
  })

  it('leaves a conversation out whose prompt the template refuses, and goes on', async () => {
    const source = `{{ bos_token }}{% for m in messages %}{% if add_generation_prompt and 'odd' in m.content %}{{ raise_exception('no odd prompts') }}{% endif %}{% if m.role == 'assistant' %}{% generation %}{{ m.content + eos_token }}{% endgeneration %}{% else %}{{ m.content }}{% endif %}{% endfor %}`
    const odd = await loadTokenizer('mistral-v3', { chatTemplate: source })
    const data = await prepare([1, 'odd'], {}, odd)
    expect(data.report.totals).toMatchObject({ used: 1, dropped: { 'template-refuses': 1 } })
  })

  it.each([
    ['nothing-trained', [0, 50, 51], []],
    ['end-not-trained', [0, 50, 51, 1, 52, 1], [2, 4, 5]],
    ['end-not-trained', [0, 50, 51], [2]],
    ['bos-count', [0, 0, 51, 1], [2, 3]],
    ['bos-count', [50, 51, 1], [1, 2]],
    ['pad-is-trained', [0, 50, 2, 1], [2, 3]],
    ['too-long', [0, ...Array.from({ length: 300 }, () => 51), 1], [300, 301]],
  ] as const)('finds %s in a row, and nothing else', async (rule, tokens, trained) => {
    const data = await prepare([1])
    const { bosTokenId = 0, eosTokenId, padTokenId } = data.tokenizer
    const ids = Int32Array.from(tokens, (token) => (token < 3 ? [bosTokenId, eosTokenId, padTokenId][token] : token))
    const labels = ids.map((id, i) => ((trained as readonly number[]).includes(i) ? id : -100))
    expect(inspect({ ...data, train: [{ inputIds: ids, labels }] }).failures).toEqual({ [rule]: 1 })
  })

  it('finds a template that serves something else than it trains', async () => {
    const source = `{{ bos_token }}{% for m in messages %}{% if m.role == 'assistant' %}{% generation %}{{ m.content + eos_token }}{% endgeneration %}{% else %}{{ m.content }}{% if not loop.last %} :{% endif %}{% endif %}{% endfor %}`
    const odd = await loadTokenizer('mistral-v3', { chatTemplate: source })
    const data = await prepare([1], {}, odd)
    expect(() => preflight(data)).toThrow(/serving-differs: 1 of 1/)
  })
})
