import { draftOf, isMessage, toolsOf, turnsOfMessages } from './message-list.js'
import { parsedIfJsonText } from './format.js'
import type { Format } from './format.js'

/** OpenAI's chat form: `{messages: [{role, content, tool_calls?}], tools?}`. */
export const messages: Format = {
  name: 'messages',
  detect(record) {
    const list = parsedIfJsonText(record.messages)
    if (!Array.isArray(list) || list.length === 0) return null
    if (!list.some(isMessage)) return null
    return { confidence: list.every(isMessage) ? 1 : 0.8, reason: 'messages is a list of {role, content}' }
  },
  reformat(record) {
    const turns = turnsOfMessages(parsedIfJsonText(record.messages), 'messages')
    return [draftOf(turns, toolsOf(record.tools ?? record.functions, 'tools'))]
  },
}
