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
    const turns = isMessageList(list) ? turnsOfMessages(list, 'conversations') : turnsOfSaid(list, 'conversations')
    const system = typeof record.system === 'string' ? record.system : ''
    const all: Turn[] = system.trim() === '' ? turns : [{ role: 'system', content: system }, ...turns]
    return [draftOf(all, toolsOf(record.tools, 'tools'))]
  },
}

/** True for what could be one message of ShareGPT's form. */
export function isSaid(value: unknown): boolean {
  return isObject(value) && typeof value.from === 'string' && 'value' in value
}

/** @throws RecordError where a message is broken; `field` is the name of the list. */
export function turnsOfSaid(list: unknown, field: string): Turn[] {
  return checkShape(saidSchema, list, field).map(({ from, value }, i) => turnOf(from, value, `${field}.${i}`))
}

function turnOf(from: string, value: string, where: string): Turn {
  const name = from.toLowerCase()
  const role = Object.hasOwn(ROLES, name) ? ROLES[name] : undefined
  if (role === undefined) throw new RecordError('unknown-role', `${where}.from`)
  return role === 'call' ? callOf(value, where) : { role, content: value }
}

function callOf(value: string, where: string): Turn {
  const parsed = parsedIfJsonText(value)
  const calls: unknown[] = Array.isArray(parsed) ? parsed : [parsed]
  const toolCalls = calls.map((call) => {
    const args = isObject(call) ? parsedIfJsonText(call.arguments ?? call.parameters ?? {}) : undefined
    if (!isObject(call) || typeof call.name !== 'string' || !isObject(args)) {
      throw new RecordError('tool-arguments', where)
    }
    return { name: call.name, arguments: args }
  })
  return { role: 'assistant', content: '', toolCalls }
}
