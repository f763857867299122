import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { chat, conversationOf, fixture, golden, loadTokenizer } from '../../test/fixtures.js'
import type { GoldenMessage, GoldenTool } from '../../test/fixtures.js'
import type { Conversation } from '../conversation.js'
import { DataError } from '../errors.js'
import type { ChatTokenizer } from './chat-tokenizer.js'
import { trainsAsServed } from './serving.js'

interface TemplateCase {
  tokenizer: string
  template: string
  case: string
  messages: GoldenMessage[]
  tools: GoldenTool[] | null
  text: string
  ids: number[]
  mask: number[] | null
}

const template = (name: string): string => readFileSync(fixture(`templates/${name}.jinja`), 'utf8')

function trainedText(tokenizer: ChatTokenizer, conversation: Conversation): string {
  const { labels } = tokenizer.encodeConversation(conversation)
  return tokenizer.decode(
    labels.filter((label) => label !== -100),
    { skipSpecialTokens: false },
  )
}

describe('a Jinja chat template', () => {
  for (const row of golden<TemplateCase[]>('templates')) {
    it(`writes ${row.template} (${row.case}, ${row.tokenizer}) as Transformers does`, async () => {
      const tokenizer = await loadTokenizer(row.tokenizer, {
        chatTemplate: template(row.template),
        rules: 'transformers',
      })
      const conversation = conversationOf(row.messages, row.tools)
      const example = tokenizer.encodeConversation(conversation)
      expect(tokenizer.render(conversation.turns, { tools: conversation.tools ?? [] })).toBe(row.text)
      expect(Array.from(example.inputIds)).toEqual(row.ids)
      if (row.mask === null) return
      expect(Array.from(example.labels, (label) => (label === -100 ? 0 : 1))).toEqual(row.mask)
    })
  }

  it('finds the same answers with and without generation blocks', async () => {
    const conversation = chat('one', 'two words', 'three', 'four\nlines ')
    const plain = await loadTokenizer('chatml', { chatTemplate: template('chatml') })
    const blocks = await loadTokenizer('chatml', { chatTemplate: template('chatml-generation') })
    expect(plain.encodeConversation(conversation)).toEqual(blocks.encodeConversation(conversation))
  })

  it('trains the token that ends a turn and not the line end after it', async () => {
    const tokenizer = await loadTokenizer('chatml')
    const { inputIds, labels } = tokenizer.encodeConversation(chat('one', 'two', 'three', 'four'))
    const trained = tokenizer.decode(
      inputIds.filter((_, i) => labels[i] !== -100),
      { skipSpecialTokens: false },
    )
    expect(trained).toBe('two<|im_end|>four<|im_end|>')
  })

  it('trains the header format up to its end-of-turn token', async () => {
    const tokenizer = await loadTokenizer('headers')
    const { inputIds, labels } = tokenizer.encodeConversation(chat('one', 'two', 'three', 'four'))
    const trained = tokenizer.decode(
      inputIds.filter((_, i) => labels[i] !== -100),
      { skipSpecialTokens: false },
    )
    expect(trained).toBe('two<|eot_id|>four<|eot_id|>')
  })

  it('marks the answers where the template rewrites earlier turns but keeps their text', async () => {
    const tokenizer = await loadTokenizer('chatml', { chatTemplate: template('thinking') })
    const { inputIds, labels } = tokenizer.encodeConversation(chat('one', 'two', 'three', 'four'))
    const trained = tokenizer.decode(
      inputIds.filter((_, i) => labels[i] !== -100),
      { skipSpecialTokens: false },
    )
    expect(trained).toBe('two<|im_end|>four<|im_end|>')
  })

  it('trains the empty thought that a template puts before the last answer, which serving leaves to the model', async () => {
    const source = `{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' }}{% if m.role == 'assistant' and loop.last %}{{ '<think>\\n\\n</think>\\n\\n' }}{% endif %}{{ m.content + '<|im_end|>\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}`
    const tokenizer = await loadTokenizer('chatml', { chatTemplate: source })
    const conversation = chat('one', 'two', 'three', 'four')
    expect(trainedText(tokenizer, conversation)).toBe('two<|im_end|><think>\n\n</think>\n\nfour<|im_end|>')
    expect(trainsAsServed(tokenizer, conversation)).toBe(true)
  })

  it('takes empty blocks for nothing, and the end of the last turn in a block of its own for part of it', async () => {
    const ends = `{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' }}{% if m.role == 'assistant' %}{% generation %}{% if m.tool_calls %}call{% endif %}{% endgeneration %}{% generation %}{{ m.content }}{% endgeneration %}{% else %}{{ m.content }}{% endif %}{% endfor %}{% if messages[-1].role == 'assistant' %}{% generation %}{{ '<|im_end|>' }}{% endgeneration %}{% endif %}`
    const tokenizer = await loadTokenizer('chatml', { chatTemplate: ends })
    expect(trainedText(tokenizer, chat('one', 'two', 'three', 'four'))).toBe('twofour<|im_end|>')
    const more = ends.replace(`{{ '<|im_end|>' }}`, 'Bye.')
    const odd = await loadTokenizer('chatml', { chatTemplate: more })
    expect(() => odd.encodeConversation(chat('one', 'two'))).toThrow(
      /must write one generation block per assistant turn \(1\), got 3/,
    )
  })

  it('refuses to guess where the template changes what an answer says', async () => {
    const tokenizer = await loadTokenizer('chatml', { chatTemplate: template('thinking') })
    const conversation = chat('one', 'hm</think>two', 'three', 'four')
    expect(() => tokenizer.encodeConversation(conversation)).toThrow(
      /chat template: this template rewrites earlier turns/,
    )
  })

  it('keeps special tokens in a turn apart from its own', async () => {
    const tokenizer = await loadTokenizer('chatml')
    const { inputIds } = tokenizer.encodeConversation(chat('a<|im_end|>b', 'c<|im_start|>d'))
    expect(inputIds.filter((id) => id === tokenizer.eosTokenId)).toHaveLength(2)
    expect(tokenizer.render(chat('a<|im_end|>b', 'c').turns)).toContain('a<|im_end|>b')
  })

  it('puts a system prompt into the first user turn where the template has no place for it', async () => {
    const source = `{{ bos_token }}{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system role') }}{% endif %}{{ '<|im_start|>' + m.role + ' ' + m.content + '<|im_end|>' }}{% endfor %}`
    const tokenizer = await loadTokenizer('chatml', { chatTemplate: source })
    const conversation = chat('one', 'two')
    conversation.turns.unshift({ role: 'system', content: 'Be kind.' })
    expect(tokenizer.render(conversation.turns)).toContain('user Be kind.\n\none<|im_end|>')
    const { inputIds, labels } = tokenizer.encodeConversation(conversation)
    expect(tokenizer.decode(inputIds.filter((_, i) => labels[i] !== -100)).trim()).toContain('two')
  })

  it('repeats the template’s own words in an error, and no word of the conversation', async () => {
    const source = `{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('this model has no system role: ' ~ m.content) }}{% else %}{{ raise_exception('only templates speak here') }}{% endif %}{% endfor %}`
    const tokenizer = await loadTokenizer('chatml', { chatTemplate: source })
    expect(() => tokenizer.render(chat('secret', 'b').turns)).toThrow(
      'chat template: only templates speak here, got the roles user, assistant',
    )
  })

  it('names a template that is not Jinja', async () => {
    await expect(loadTokenizer('chatml', { chatTemplate: '{% for %}' })).rejects.toThrow(DataError)
    await expect(loadTokenizer('chatml', { chatTemplate: '{% for %}' })).rejects.toThrow(/not valid Jinja/)
  })
})
