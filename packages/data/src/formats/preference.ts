import type { Draft } from '../conversation.js'
import { RecordError } from '../records/rules.js'
import { exchange, parsedIfJsonText, requireText } from './format.js'
import type { Format } from './format.js'
import { draftOf, isMessageList, toolsOf, turnsOfMessages } from './message-list.js'
import { asPrompt } from './prompt-completion.js'
import { transcriptOf } from './transcript.js'

/** Preference pairs `{prompt?, chosen, rejected}`: the chosen answer is trained on, the rejected one is not read. */
export const preference: Format = {
  name: 'preference',
  detect(record) {
    if (record.rejected === undefined || record.rejected === null) return null
    const chosen = parsedIfJsonText(record.chosen)
    if (isMessageList(chosen)) {
      return { confidence: 0.95, reason: 'chosen is a list of {role, content}, and there is a rejected' }
    }
    if (typeof chosen !== 'string') return null
    const hasPrompt = typeof record.prompt === 'string' || typeof record.question === 'string'
    if (hasPrompt) return { confidence: 0.95, reason: 'prompt and chosen are text, and there is a rejected' }
    const style = transcriptOf(chosen)?.style
    return style === undefined ? null : { confidence: 0.9, reason: `chosen is a transcript with ${style}` }
  },
  reformat(record) {
    const chosen = parsedIfJsonText(record.chosen)
    const prompt = parsedIfJsonText(record.prompt ?? record.question)
    const tools = toolsOf(record.tools, 'tools')
    if (Array.isArray(chosen)) return [withPrompt(prompt, chosen, tools)]
    const answer = requireText(chosen, 'chosen')
    const transcript = transcriptOf(answer)
    if (transcript !== null) return [draftOf(transcript.turns, tools)]
    return [exchange(requireText(prompt, 'prompt'), answer, typeof record.system === 'string' ? record.system : '')]
  },
}

/** The chosen messages hold the whole conversation, or only what follows the prompt. */
function withPrompt(prompt: unknown, chosen: unknown[], tools: Draft['tools']): Draft {
  const answer = turnsOfMessages(chosen, 'chosen')
  if (answer.some((turn) => turn.role === 'user')) return draftOf(answer, tools)
  if (typeof prompt === 'string') return draftOf([{ role: 'user', content: prompt }, ...answer], tools)
  if (!Array.isArray(prompt)) throw new RecordError('no-user-turn', 'prompt')
  return draftOf([...asPrompt(turnsOfMessages(prompt, 'prompt')), ...answer], tools)
}
