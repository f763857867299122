import { describe, expect, it } from 'vitest'
import { chat, conversationOf, golden, loadTokenizer } from '../../test/fixtures.js'
import type { GoldenMessage, GoldenTool } from '../../test/fixtures.js'
import { mistralCallId, mistralTemplate } from './mistral-template.js'
import { pythonJson } from './python-json.js'
import { joinSegments } from './segments.js'
import type { Turn } from '../conversation.js'

interface MistralCase {
  tokenizer: string
  case: string
  messages: GoldenMessage[]
  tools: GoldenTool[] | null
  ids: number[]
  mask: number[]
}

const write = (version: 'mistral-v1' | 'mistral-v3' | 'mistral-v3-tekken', turns: Turn[]): string =>
  joinSegments(mistralTemplate(version, '<s>', '</s>').render(turns, {}))

const withSystem: Turn[] = [
  { role: 'user', content: 'a' },
  { role: 'assistant', content: 'b' },
  { role: 'system', content: 'SYSTEM' },
]

describe('the Mistral formats', () => {
  for (const row of golden<MistralCase[]>('mistral-common')) {
    it(`give the tokens and masks of mistral-common's rules for ${row.tokenizer} (${row.case})`, async () => {
      const tokenizer = await loadTokenizer(row.tokenizer)
      expect(tokenizer.template.name).toBe(row.tokenizer)
      const { inputIds, labels } = tokenizer.encodeConversation(conversationOf(row.messages, row.tools))
      expect(Array.from(inputIds)).toEqual(row.ids)
      expect(Array.from(labels, (label) => (label === -100 ? 0 : 1))).toEqual(row.mask)
    })
  }

  it('write version 1 as `<s> [INST] a [/INST] b</s>`, the system prompt before the first user turn', () => {
    const turns: Turn[] = [
      { role: 'system', content: 'S' },
      { role: 'user', content: 'a' },
      { role: 'assistant', content: 'b' },
      { role: 'user', content: 'c' },
      { role: 'assistant', content: 'd' },
    ]
    expect(write('mistral-v1', turns)).toBe('<s> [INST] S\n\na [/INST] b</s> [INST] c [/INST] d</s>')
  })

  it('write version 3 as `<s>[INST] a[/INST] b</s>`, the system prompt before the last user turn, an answer after it or not', () => {
    const turns: Turn[] = [
      { role: 'system', content: 'SYSTEM' },
      { role: 'user', content: 'a' },
      { role: 'assistant', content: 'b' },
      { role: 'user', content: 'c' },
    ]
    expect(write('mistral-v3', turns)).toBe('<s>[INST] a[/INST] b</s>[INST] SYSTEM\n\nc[/INST]')
    const answered: Turn[] = [...turns, { role: 'assistant', content: 'd' }]
    expect(write('mistral-v3', answered)).toBe('<s>[INST] a[/INST] b</s>[INST] SYSTEM\n\nc[/INST] d</s>')
    expect(write('mistral-v3-tekken', answered)).toBe('<s>[INST]a[/INST]b</s>[INST]SYSTEM\n\nc[/INST]d</s>')
  })

  it('write tools, calls and results of version 3 as JSON with Python’s spacing', () => {
    const tools = [{ name: 'f', description: 'd', parameters: { type: 'object', properties: {} } }]
    const turns: Turn[] = [
      { role: 'user', content: 'a' },
      { role: 'assistant', content: '', toolCalls: [{ id: 'abcdef123', name: 'f', arguments: { x: 1, y: 'é' } }] },
      { role: 'tool', content: 'plain words', toolCallId: 'abcdef123' },
      { role: 'assistant', content: 'ok' },
    ]
    expect(joinSegments(mistralTemplate('mistral-v3', '<s>', '</s>').render(turns, { tools }))).toBe(
      '<s>[AVAILABLE_TOOLS] [{"type": "function", "function": {"name": "f", "description": "d", "parameters": {"type": "object", "properties": {}}}}][/AVAILABLE_TOOLS]' +
        '[INST] a[/INST][TOOL_CALLS] [{"name": "f", "arguments": {"x": 1, "y": "é"}, "id": "abcdef123"}]</s>' +
        '[TOOL_RESULTS] {"content": "plain words", "call_id": "abcdef123"}[/TOOL_RESULTS] ok</s>',
    )
  })

  it('map other tool-call ids to nine letters and digits, always the same', () => {
    expect(mistralCallId('abcDEF123')).toBe('abcDEF123')
    expect(mistralCallId('call_9f2k31LmNo')).toMatch(/^[a-zA-Z0-9]{9}$/)
    expect(mistralCallId('call_9f2k31LmNo')).toBe(mistralCallId('call_9f2k31LmNo'))
    expect(mistralCallId('call_1')).not.toBe(mistralCallId('call_2'))
  })

  it.each([
    [[{ role: 'assistant', content: 'b' }], 'user and assistant turns must alternate'],
    [withSystem, 'a system turn must stand at the beginning'],
    [
      [
        { role: 'user', content: 'a' },
        { role: 'tool', content: 'r', toolCallId: 'x' },
      ],
      'a tool result must follow a tool call',
    ],
    [[], 'a conversation needs a user turn'],
  ] as [Turn[], string][])('refuse %j: %s', (turns, rule) => {
    expect(() => write('mistral-v3', turns)).toThrow(rule)
  })

  it('are recognised by what a template writes, with a system prompt that its own template would lose', async () => {
    const tokenizer = await loadTokenizer('mistral-v3')
    const conversation = chat('a', 'b')
    conversation.turns.unshift({ role: 'system', content: 'S' })
    expect(tokenizer.render(conversation.turns)).toBe('<s>[INST] S\n\na[/INST] b</s>')
    const byTemplate = await loadTokenizer('mistral-v3', { rules: 'transformers' })
    expect(byTemplate.render(conversation.turns)).toBe('<s>[INST] a[/INST] b</s>')
    expect((await loadTokenizer('chatml')).template.name).toBe('jinja')
    expect((await loadTokenizer('legacy')).template.name).toBe('mistral-v1')
  })

  it('give the same prompt for serving as stands before the answer in training', async () => {
    for (const name of ['mistral-v1', 'mistral-v3']) {
      const tokenizer = await loadTokenizer(name)
      const { turns } = chat('How are you?', 'Fine, thank you.')
      const prompt = tokenizer.encodePrompt(turns.slice(0, 1))
      const { inputIds } = tokenizer.encodeConversation(chat('How are you?', 'Fine, thank you.'))
      expect(Array.from(inputIds.slice(0, prompt.length))).toEqual(Array.from(prompt))
    }
  })
})

describe('pythonJson', () => {
  it('writes what json.dumps(ensure_ascii=False) writes', () => {
    for (const { json, dumps } of golden<{ json: string; dumps: string }[]>('python-json')) {
      expect(pythonJson(JSON.parse(json))).toBe(dumps)
    }
  })
})
