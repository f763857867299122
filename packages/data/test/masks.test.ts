import type { ChatTokenizer, Conversation, Turn } from '@mirastral/data'
import { fitToLength, sampleView, tokenView } from '@mirastral/data'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { chat, loadTokenizer } from './fixtures.js'

/**
 * Masks by another way: a walk over the finished tokens with nothing but the grammar of the format. In version 3 the model
 * speaks after [/INST] and [/TOOL_RESULTS] until </s>; in version 1 from the text [/INST] of an instruction until </s>; in
 * ChatML from the line after "<|im_start|>assistant" until <|im_end|>.
 */
function walk(tokenizer: ChatTokenizer, ids: readonly number[], format: 'v1' | 'v3' | 'chatml'): boolean[] {
  let speaks = false
  let written = ''
  return ids.map((id, i) => {
    const text = tokenizer.tokenText(id)
    const isSpecial = tokenizer.isSpecial(id)
    if (format === 'chatml') {
      if (isSpecial && text === '<|im_start|>') written = ''
      const was = speaks
      if (!isSpecial) written += text
      if (isSpecial && text === '<|im_end|>') speaks = false
      else if (!speaks && written === 'assistant\n') speaks = true
      return was
    }
    const next = ids
      .slice(i + 1, i + 4)
      .map((other) => tokenizer.tokenText(other))
      .join('')
    if (format === 'v3') {
      if (isSpecial && text !== '</s>' && text !== '[TOOL_CALLS]') {
        // Results of several calls follow each other.
        speaks = (text === '[/INST]' || text === '[/TOOL_RESULTS]') && !next.startsWith('[TOOL_RESULTS]')
        return false
      }
    } else {
      written = isSpecial ? '' : written + text
      if (!speaks && written.trimEnd().endsWith('[/INST]')) {
        speaks = true
        return false
      }
    }
    const was = speaks
    if (isSpecial && text === '</s>') {
      speaks = false
      written = ''
    }
    return was
  })
}

const sentence = fc
  .array(
    fc.constantFrom('I', 'slept', 'badly', 'again.', 'Größe', '🙂', '12', '"quoted"', '\n', 'a  b', "don't", 'then:'),
    {
      minLength: 1,
      maxLength: 8,
    },
  )
  .map((words) => words.join(' ').trim())
  .filter((text) => text !== '')

const exchange = fc.record({ question: sentence, answer: sentence, call: fc.boolean() })

const conversations = fc
  .record({ system: fc.option(sentence), exchanges: fc.array(exchange, { minLength: 1, maxLength: 4 }) })
  .map(({ system, exchanges }): Conversation => {
    const turns: Turn[] = system === null ? [] : [{ role: 'system', content: system }]
    for (const { question, answer, call } of exchanges) {
      turns.push({ role: 'user', content: question })
      if (call) {
        const ids = ['aaaaaaaa1', 'aaaaaaaa2']
        turns.push({
          ...{ role: 'assistant', content: '' },
          toolCalls: ids.map((id) => ({ id, name: 'look_up', arguments: { words: question } })),
        })
        for (const id of ids) turns.push({ role: 'tool', content: answer, toolCallId: id })
      }
      turns.push({ role: 'assistant', content: answer })
    }
    return { turns, source: { fileHash: '0'.repeat(64), record: 0 } }
  })

const withoutTools = (conversation: Conversation): Conversation => ({
  ...conversation,
  turns: conversation.turns.filter(
    (turn) => turn.role !== 'tool' && (turn.role !== 'assistant' || turn.toolCalls === undefined),
  ),
})

const maskOf = (labels: Int32Array): boolean[] => Array.from(labels, (label) => label !== -100)

describe('masks', () => {
  it.each([
    ['mistral-v3', 'v3', true],
    ['mistral-v1', 'v1', false],
    ['legacy', 'v1', false],
    ['chatml', 'chatml', false],
  ] as const)('of %s are those of an independent walk over the tokens (property)', async (name, format, tools) => {
    const tokenizer = await loadTokenizer(name)
    fc.assert(
      fc.property(conversations, (drawn) => {
        const { inputIds, labels } = tokenizer.encodeConversation(tools ? drawn : withoutTools(drawn))
        expect(maskOf(labels)).toEqual(walk(tokenizer, Array.from(inputIds), format))
        expect(Array.from(labels).every((label, i) => label === -100 || label === inputIds[i])).toBe(true)
      }),
      { numRuns: 150, seed: 7 },
    )
  })

  it('leave out tool calls, or all answers but the last, where asked', async () => {
    const tokenizer = await loadTokenizer('mistral-v3')
    const conversation = chat('one', 'two', 'three', 'four')
    conversation.turns.splice(
      3,
      0,
      { role: 'assistant', content: '', toolCalls: [{ id: 'aaaaaaaa1', name: 'f', arguments: {} }] },
      { role: 'tool', content: 'r', toolCallId: 'aaaaaaaa1' },
    )
    const trained = (options: Parameters<ChatTokenizer['encodeConversation']>[1]): string => {
      const { inputIds, labels } = tokenizer.encodeConversation(conversation, options)
      return tokenizer.decode(
        inputIds.filter((_, i) => labels[i] !== -100),
        { skipSpecialTokens: false },
      )
    }
    expect(trained({})).toBe('two</s>[TOOL_CALLS] [{"name": "f", "arguments": {}, "id": "aaaaaaaa1"}]</s> four</s>')
    expect(trained({ trainOnToolCalls: false })).toBe('two</s> four</s>')
    expect(trained({ trainOn: 'last' })).toBe('four</s>')
  })

  it('leave out answers that are only context', async () => {
    const tokenizer = await loadTokenizer('mistral-v3')
    const conversation = chat('one', 'two', 'three', 'four')
    conversation.turns[1] = { role: 'assistant', content: 'two', train: false }
    const { inputIds, labels } = tokenizer.encodeConversation(conversation)
    expect(tokenizer.decode(inputIds.filter((_, i) => labels[i] !== -100))).toBe('four')
  })

  it('cover running text with its end, and not its beginning', async () => {
    const tokenizer = await loadTokenizer('mistral-v3')
    const plain: Conversation = { ...chat('unused'), turns: [{ role: 'assistant', content: 'A page.' }], plain: true }
    const { inputIds, labels } = tokenizer.encodeConversation(plain)
    expect(tokenizer.decode(inputIds, { skipSpecialTokens: false })).toBe('<s>A page.</s>')
    expect(maskOf(labels)).toEqual(Array.from(inputIds, (_, i) => i > 0))
  })

  it('train the same token twice where an answer repeats the question', async () => {
    const tokenizer = await loadTokenizer('mistral-v1')
    const { labels } = tokenizer.encodeConversation(chat('same words', 'same words'))
    const mask = maskOf(labels)
    expect(mask.indexOf(true)).toBeGreaterThan(0)
    expect(mask.lastIndexOf(false)).toBe(mask.indexOf(true) - 1)
  })
})

describe('fitToLength', () => {
  const long = chat('first question here', 'first answer', 'second question', 'second answer', 'third', 'last answer')
  long.turns.unshift({ role: 'system', content: 'Be kind.' })

  it('leaves a conversation alone that fits', async () => {
    const tokenizer = await loadTokenizer('mistral-v3')
    const whole = tokenizer.encodeConversation(long)
    expect(fitToLength(tokenizer, long, { maxLength: whole.inputIds.length })).toEqual({
      examples: [whole],
      changed: 'no',
    })
  })

  it('takes the oldest exchanges away, whole, and keeps the system prompt', async () => {
    const tokenizer = await loadTokenizer('mistral-v3')
    const size = tokenizer.encodeConversation(long).inputIds.length
    const { examples, changed } = fitToLength(tokenizer, long, { maxLength: size - 1 })
    expect(changed).toBe('shortened')
    const text = tokenizer.decode(examples[0].inputIds, { skipSpecialTokens: false })
    expect(text).toBe(
      '<s>[INST] second question[/INST] second answer</s>[INST] Be kind.\n\nthird[/INST] last answer</s>',
    )
  })

  it('cuts on the right what is too long on its own, and drops it where nothing is left to train on', async () => {
    const tokenizer = await loadTokenizer('mistral-v3')
    const wordy = chat('a short question', 'word '.repeat(100))
    const { examples, changed } = fitToLength(tokenizer, wordy, { maxLength: 40 })
    expect([changed, examples[0].inputIds.length]).toEqual(['cut', 40])
    expect(fitToLength(tokenizer, chat('word '.repeat(100), 'answer'), { maxLength: 40 })).toEqual({
      examples: [],
      changed: 'cut',
    })
    expect(fitToLength(tokenizer, wordy, { maxLength: 40, truncation: 'drop' })).toEqual({
      examples: [],
      changed: 'dropped',
    })
  })

  it('splits between exchanges so that every answer is in one piece, and none is lost (property)', async () => {
    const tokenizer = await loadTokenizer('mistral-v3')
    fc.assert(
      fc.property(conversations.map(withoutTools), fc.integer({ min: 70, max: 300 }), (drawn, maxLength) => {
        const { examples, changed } = fitToLength(tokenizer, drawn, { maxLength, truncation: 'split' })
        const trained = examples.map(({ inputIds, labels }) =>
          tokenizer
            .decode(
              inputIds.filter((_, i) => labels[i] !== -100),
              { skipSpecialTokens: false },
            )
            .trimStart(),
        )
        for (const { inputIds } of examples) expect(inputIds.length).toBeLessThanOrEqual(maxLength)
        const answers = drawn.turns.flatMap((turn) => (turn.role === 'assistant' ? [`${turn.content}</s>`] : []))
        if (changed === 'no') expect(examples).toHaveLength(1)
        // A single exchange may be too long for a row; its answer is then cut, and it stands alone.
        const wasCut = examples.some(({ inputIds }) => inputIds.length === maxLength)
        if (!wasCut) expect(trained.join(' ')).toBe(answers.join(' '))
      }),
      { numRuns: 150, seed: 8 },
    )
  })

  it('splits running text into windows', async () => {
    const tokenizer = await loadTokenizer('mistral-v3')
    const plain: Conversation = {
      ...chat(''),
      turns: [{ role: 'assistant', content: 'word '.repeat(60) }],
      plain: true,
    }
    const whole = tokenizer.encodeConversation(plain)
    const { examples } = fitToLength(tokenizer, plain, { maxLength: 50, truncation: 'split' })
    expect(examples.flatMap(({ inputIds }) => Array.from(inputIds))).toEqual(Array.from(whole.inputIds))
  })
})

describe('tokenView', () => {
  it('shows each token with what is trained, with and without colours', async () => {
    const tokenizer = await loadTokenizer('mistral-v3')
    const view = tokenView(tokenizer, tokenizer.encodeConversation(chat('a', 'b')), false)
    const lines = view.split('\n')
    expect(lines[0]).toBe('    0   1   -   "<s>"')
    expect(lines[1]).toBe('    1   3   -   "[INST]"')
    expect(lines.at(-1)).toBe(`${String(lines.length - 1).padStart(5)}   2 train "</s>"`)
    expect(lines).toHaveLength(tokenizer.encodeConversation(chat('a', 'b')).inputIds.length)
    expect(sampleView(tokenizer)).toContain('\x1b[30;42m" You"\x1b[0m')
    expect(sampleView(tokenizer, {}, false)).toContain('train "[TOOL_CALLS]"')
    expect(sampleView(await loadTokenizer('mistral-v1'), {}, false)).not.toContain('TOOL')
  })
})
