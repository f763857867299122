import { z } from 'zod'
import type { Turn } from '../conversation.js'
import { RecordError } from '../records/rules.js'
import { checkShape, isObject, parsedIfJsonText } from './format.js'
import type { Format } from './format.js'
import { draftOf, isMessageList, toolsOf, turnsOfMessages } from './message-list.js'

const saidSchema = z.array(z.looseObject({ from: z.string(), value: z.string() }))

const ROLES: Readonly<Record<string, Turn['role'] | 'call'>> = {
  system: 'system',
  human: 'user',
  user: 'user',
  gpt: 'assistant',
  chatgpt: 'assistant',
  assistant: 'assistant',
  model: 'assistant',
  bot: 'assistant',
  function_call: 'call',
  observation: 'tool',
  tool: 'tool',
  function_response: 'tool',
}

/** ShareGPT's `{conversations: [{from, value}]}`, with LLaMA-Factory's `system`, `tools`, function_call and observation. */
export const shareGpt: Format = {
  name: 'sharegpt',
  detect(record) {
    const list = parsedIfJsonText(record.conversations ?? record.conversation)
    if (!Array.isArray(list) || list.length === 0) return null
    if (list.every(isSaid)) return { confidence: 1, reason: 'conversations is a list of {from, value}' }
    if (isMessageList(list)) return { confidence: 0.95, reason: 'conversations is a list of {role, content}' }
    return list.some(isSaid) ? { confidence: 0.8, reason: 'conversations has {from, value} in it' } : null
  },
  reformat(record) {
    const list = parsedIfJsonText(record.conversations ?? record.conversation)
    const turns = isMessageList(list)
      ? turnsOfMessages(list, 'conversations')
      : checkShape(saidSchema, list, 'conversations').map(({ from, value }, i) => turnOf(from, value, i))
    const system = typeof record.system === 'string' ? record.system : ''
    const all: Turn[] = system.trim() === '' ? turns : [{ role: 'system', content: system }, ...turns]
    return [draftOf(all, toolsOf(record.tools, 'tools'))]
  },
}

function isSaid(value: unknown): boolean {
  return isObject(value) && typeof value.from === 'string' && 'value' in value
}

function turnOf(from: string, value: string, index: number): Turn {
  const name = from.toLowerCase()
  const role = Object.hasOwn(ROLES, name) ? ROLES[name] : undefined
  if (role === undefined) throw new RecordError('unknown-role', `conversations.${index}.from`)
  return role === 'call' ? callOf(value, index) : { role, content: value }
}

function callOf(value: string, index: number): Turn {
  const parsed = parsedIfJsonText(value)
  const calls: unknown[] = Array.isArray(parsed) ? parsed : [parsed]
  const toolCalls = calls.map((call) => {
    const args = isObject(call) ? parsedIfJsonText(call.arguments ?? call.parameters ?? {}) : undefined
    if (!isObject(call) || typeof call.name !== 'string' || !isObject(args)) {
      throw new RecordError('tool-arguments', `conversations.${index}`)
    }
    return { name: call.name, arguments: args }
  })
  return { role: 'assistant', content: '', toolCalls }
}
