import type { PreferenceDraft, Turn } from '../conversation.js'
import { RecordError } from '../records/rules.js'
import { isObject, parsedIfJsonText, requireText } from './format.js'
import type { Detection, JsonObject, PairFormat } from './format.js'
import { draftOf, isMessage, isMessageList, toolsOf, turnsOfMessages } from './message-list.js'
import { asPrompt } from './prompt-completion.js'
import { isSaid, turnsOfSaid } from './share-gpt.js'
import { transcriptOf } from './transcript.js'

/**
 * Preference pairs: TRL's `{prompt?, chosen, rejected}` as texts, transcripts or lists of messages, where without a prompt
 * the turns that both answers begin with are the prompt; LLaMA-Factory's `{conversations, chosen: {from, value}, ...}` and
 * `{instruction, input?, chosen, rejected}`. As a conversation, only the chosen answer is read.
 */
export const preference: PairFormat = {
  name: 'preference',
  detect(record) {
    if (record.rejected === undefined || record.rejected === null) return null
    const chosen = parsedIfJsonText(record.chosen)
    if (isObject(chosen)) return detectSingle(chosen, record)
    if (isTurnList(chosen)) return { confidence: 0.95, reason: 'chosen is a list of messages, and there is a rejected' }
    if (typeof chosen !== 'string') return null
    const prompt = parsedIfJsonText(record.prompt ?? record.question ?? record.instruction)
    if (typeof prompt === 'string') {
      return { confidence: 0.95, reason: 'prompt and chosen are text, and there is a rejected' }
    }
    if (isTurnList(prompt)) return { confidence: 0.95, reason: 'prompt is a list of messages, chosen is text' }
    const style = transcriptOf(chosen)?.style
    return style === undefined ? null : { confidence: 0.9, reason: `chosen is a transcript with ${style}` }
  },
  reformat(record) {
    const prompt = promptOf(record)
    const answer = answerOf(record.chosen, 'chosen')
    return [draftOf(answer[0].role === 'assistant' ? [...asPrompt(prompt), ...answer] : answer, toolsIn(record))]
  },
  pairs(record) {
    const prompt = promptOf(record)
    const chosen = answerOf(record.chosen, 'chosen')
    const rejected = answerOf(record.rejected, 'rejected')
    const tools = toolsIn(record)
    const pair =
      chosen[0].role === 'assistant' && rejected[0].role === 'assistant'
        ? { prompt, chosen, rejected }
        : splitAtDifference(wholeOf(prompt, chosen), wholeOf(prompt, rejected))
    return [tools.length === 0 ? pair : { ...pair, tools }]
  },
}

function detectSingle(chosen: JsonObject, record: JsonObject): Detection | null {
  if (!isMessage(chosen) && !isSaid(chosen)) return null
  const before = parsedIfJsonText(record.conversations ?? record.conversation ?? record.prompt)
  if (typeof before !== 'string' && !isTurnList(before)) return null
  return { confidence: 1, reason: 'chosen is a message after a prompt, and there is a rejected' }
}

function isTurnList(value: unknown): boolean {
  return isMessageList(value) || (Array.isArray(value) && value.length > 0 && value.every(isSaid))
}

/** What stands before both answers, or nothing where they hold it themselves. */
function promptOf(record: JsonObject): Turn[] {
  const turns = promptTurns(record)
  const { system } = record
  if (typeof system !== 'string' || system.trim() === '' || turns.some((turn) => turn.role === 'system')) return turns
  return [{ role: 'system', content: system }, ...turns]
}

function promptTurns(record: JsonObject): Turn[] {
  const value = parsedIfJsonText(record.prompt ?? record.question ?? record.conversations ?? record.conversation)
  if (value !== undefined && value !== null) return turnsOf(value, 'prompt', 'user')
  if (typeof record.instruction !== 'string') return []
  const parts = [record.instruction, requireText(record.input ?? '', 'input')]
  return [{ role: 'user', content: parts.filter((part) => part.trim() !== '').join('\n\n') }]
}

function answerOf(value: unknown, field: string): Turn[] {
  const turns = turnsOf(parsedIfJsonText(value), field, 'assistant')
  if (turns.length === 0) throw new RecordError('nothing-to-train-on', field)
  return turns
}

/** Messages, one message, a transcript, or a text that somebody says. */
function turnsOf(value: unknown, field: string, speaker: 'user' | 'assistant'): Turn[] {
  if (typeof value === 'string') {
    // A prompt may end with the words that open the answer.
    const turns = transcriptOf(value)?.turns ?? [{ role: speaker, content: value }]
    const last = turns[turns.length - 1]
    return speaker === 'user' && last.role === 'assistant' && last.content === '' ? turns.slice(0, -1) : turns
  }
  const list = isObject(value) ? [value] : value
  return Array.isArray(list) && list.length > 0 && list.every(isSaid)
    ? turnsOfSaid(list, field)
    : turnsOfMessages(list, field)
}

function wholeOf(prompt: readonly Turn[], answer: readonly Turn[]): Turn[] {
  return answer[0].role === 'assistant' ? [...prompt, ...answer] : [...answer]
}

/** The turns that both begin with are the prompt. */
function splitAtDifference(chosen: readonly Turn[], rejected: readonly Turn[]): PreferenceDraft {
  const isSame = (turn: Turn, i: number): boolean => JSON.stringify(turn) === JSON.stringify(rejected.at(i))
  const first = chosen.findIndex((turn, i) => !isSame(turn, i))
  if (first < 0) throw new RecordError(chosen.length === rejected.length ? 'same-answers' : 'nothing-to-train-on')
  return { prompt: chosen.slice(0, first), chosen: chosen.slice(first), rejected: rejected.slice(first) }
}

function toolsIn(record: JsonObject): ReturnType<typeof toolsOf> {
  return toolsOf(record.tools, 'tools')
}
