import { IGNORE_INDEX } from '../conversation.js'
import type { Conversation, TokenizedExample } from '../conversation.js'
import type { ChatTokenizer } from './chat-tokenizer.js'
import { fitToLength } from './fit-to-length.js'
import type { FitOptions } from './fit-to-length.js'

const GREEN = '\x1b[30;42m'
const DIM = '\x1b[2m'
const CYAN = '\x1b[36m'
const RESET = '\x1b[0m'

/** A conversation that nobody had, with a system prompt, a tool call where the template has them, and two answers. */
export function madeUpConversation(withTools: boolean): Conversation {
  const source = { fileHash: '0'.repeat(64), record: 0 }
  const opening: Conversation['turns'] = [
    { role: 'system', content: 'You listen well.' },
    { role: 'user', content: 'I slept badly again.' },
    { role: 'assistant', content: 'That wears one down.\nHow long has it been so?' },
    { role: 'user', content: 'Two weeks. When did I last note it?' },
  ]
  const answer: Conversation['turns'][number] = { role: 'assistant', content: 'You wrote it down on Monday.' }
  if (!withTools) return { turns: [...opening, answer], source }
  const call = { id: 'call12345', name: 'read_diary', arguments: { topic: 'sleep' } }
  return {
    turns: [
      ...opening,
      { role: 'assistant', content: '', toolCalls: [call] },
      { role: 'tool', content: '{"day": "Monday"}', toolCallId: call.id },
      answer,
    ],
    tools: [{ name: 'read_diary', description: 'Reads the diary.', parameters: { type: 'object', properties: {} } }],
    source,
  }
}

/** One line per token: its position, id, text, and whether it is trained on. Colours are ANSI escapes. */
export function tokenView(tokenizer: ChatTokenizer, example: TokenizedExample, color = true): string {
  const width = String(tokenizer.vocabSize).length
  const paint = (code: string, text: string): string => (color ? `${code}${text}${RESET}` : text)
  const lines = Array.from(example.inputIds, (id, i) => {
    const isTrained = example.labels[i] !== IGNORE_INDEX
    const shown = JSON.stringify(tokenizer.tokenText(id))
    const style = isTrained ? GREEN : tokenizer.isSpecial(id) ? CYAN : DIM
    return `${String(i).padStart(5)} ${String(id).padStart(width)} ${isTrained ? 'train' : '  -  '} ${paint(style, shown)}`
  })
  return lines.join('\n')
}

/** The token view of a made-up conversation, for looking at what a template and its options train on. */
export function sampleView(tokenizer: ChatTokenizer, options: FitOptions = {}, color = true): string {
  const withTools = canRender(tokenizer, madeUpConversation(true))
  const { examples } = fitToLength(tokenizer, madeUpConversation(withTools), { maxLength: 4096, ...options })
  return examples.map((example) => tokenView(tokenizer, example, color)).join('\n\n')
}

function canRender(tokenizer: ChatTokenizer, conversation: Conversation): boolean {
  try {
    tokenizer.encodeConversation(conversation)
    return true
  } catch {
    return false
  }
}
