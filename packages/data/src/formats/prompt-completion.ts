import type { Turn } from '../conversation.js'
import { RecordError } from '../records/rules.js'
import { exchange, parsedIfJsonText } from './format.js'
import type { Format } from './format.js'
import { draftOf, isMessageList, toolsOf, turnsOfMessages } from './message-list.js'

/** TRL's `{prompt, completion}`: two texts, or two lists of messages. Only the completion is trained on. */
export const promptCompletion: Format = {
  name: 'prompt-completion',
  detect(record) {
    const prompt = parsedIfJsonText(record.prompt)
    const completion = parsedIfJsonText(record.completion)
    if (typeof prompt === 'string' && typeof completion === 'string') {
      return { confidence: 0.9, reason: 'prompt and completion are text' }
    }
    const isList = isMessageList(prompt) && isMessageList(completion)
    return isList ? { confidence: 0.95, reason: 'prompt and completion are lists of {role, content}' } : null
  },
  reformat(record) {
    const prompt = parsedIfJsonText(record.prompt)
    const completion = parsedIfJsonText(record.completion)
    if (typeof prompt === 'string' && typeof completion === 'string') {
      return [exchange(prompt, completion, typeof record.system === 'string' ? record.system : '')]
    }
    if (!Array.isArray(prompt)) throw new RecordError('invalid-shape', 'prompt')
    if (!Array.isArray(completion)) throw new RecordError('invalid-shape', 'completion')
    const turns = [...asPrompt(turnsOfMessages(prompt, 'prompt')), ...turnsOfMessages(completion, 'completion')]
    return [draftOf(turns, toolsOf(record.tools, 'tools'))]
  },
}

/** What stands in a prompt is given, even where the assistant once said it. */
export function asPrompt(turns: readonly Turn[]): Turn[] {
  return turns.map((turn) => (turn.role === 'assistant' ? { ...turn, train: false } : turn))
}
