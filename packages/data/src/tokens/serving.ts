import type { Conversation } from '../conversation.js'
import type { ChatTokenizer } from './chat-tokenizer.js'
import { joinSegments } from './segments.js'

/**
 * Whether the model is given in training, before the last answer, byte for byte what it is given when it is asked for that
 * answer. Always true for running text, which has no prompt.
 */
export function trainsAsServed(tokenizer: ChatTokenizer, conversation: Conversation): boolean {
  if (conversation.plain === true) return true
  const { turns, tools = [] } = conversation
  const last = turns.findLastIndex((turn) => turn.role === 'assistant')
  if (last < 0) return true
  const segments = tokenizer.template.render(turns, { tools })
  const begins = segments.findIndex((segment) => segment.producedBy === last)
  const given = joinSegments(segments.slice(0, begins))
  return given === tokenizer.render(turns.slice(0, last), { tools, addGenerationPrompt: true })
}
