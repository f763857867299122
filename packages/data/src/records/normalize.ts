import { createHash } from 'node:crypto'
import type { AssistantTurn, Draft, ToolCall, ToolTurn, Turn } from '../conversation.js'
import type { Limits } from '../read/limits.js'
import { RecordError } from './rules.js'
import type { Adjustment } from './rules.js'

export interface NormalizeOptions {
  limits: Limits
  /** Whether the chat template has a place for text beside tool calls. */
  textBesideToolCalls: boolean
}

export interface Normalized {
  draft: Draft
  adjustments: Adjustment[]
}

/**
 * Brings a conversation into the form that chat templates need, as mistral-common does: system turns joined and first,
 * turns of one role in a row merged, user and assistant in turn, every tool result with its call.
 *
 * @throws RecordError where that is not possible, or nothing would be trained on.
 */
export function normalize(draft: Draft, options: NormalizeOptions): Normalized {
  checkTexts(draft, options.limits)
  const adjustments = new Set<Adjustment>()
  if (draft.plain === true) {
    if (draft.turns.every((turn) => turn.content.trim() === '')) throw new RecordError('nothing-to-train-on')
    return { draft, adjustments: [] }
  }
  let turns = withoutEmptyTurns(draft.turns, adjustments)
  turns = merged(systemFirst(turns, adjustments), adjustments)
  turns = cutToAnswers(turns, adjustments)
  turns = withToolIds(turns, adjustments)
  checkTools(turns)
  if (!options.textBesideToolCalls) turns = withoutTextBesideCalls(turns, adjustments)
  return { draft: { ...draft, turns }, adjustments: [...adjustments] }
}

function checkTexts({ turns, tools = [] }: Draft, limits: Limits): void {
  if (turns.length > limits.maxTurns) throw new RecordError('too-many-turns')
  turns.forEach((turn, i) => {
    if (turn.content.length > limits.maxTextLength) throw new RecordError('text-too-long', `turn ${i}`)
    checkCharacters(turn.content, `turn ${i}`)
    if (turn.role === 'assistant') turn.toolCalls?.forEach((call) => checkValues(call, `turn ${i}`, limits.maxDepth))
  })
  tools.forEach((tool, i) => checkValues(tool, `tool ${i}`, limits.maxDepth))
}

function checkCharacters(text: string, where: string): void {
  if (/\p{Surrogate}/u.test(text)) throw new RecordError('lone-surrogate', where)
  if (text.includes('\0') || /[\uFDD0-\uFDEF\uFFFE\uFFFF]/.test(text)) throw new RecordError('control-character', where)
}

function checkValues(value: unknown, where: string, depth: number): void {
  if (typeof value === 'string') checkCharacters(value, where)
  if (typeof value !== 'object' || value === null) return
  if (depth === 0) throw new RecordError('too-deep', where)
  for (const [key, member] of Object.entries(value)) {
    checkCharacters(key, where)
    checkValues(member, where, depth - 1)
  }
}

function withoutEmptyTurns(turns: readonly Turn[], adjustments: Set<Adjustment>): Turn[] {
  const kept = turns.filter((turn) => turn.role === 'tool' || callsOf(turn).length > 0 || turn.content.trim() !== '')
  if (kept.length < turns.length) adjustments.add('empty-turn-removed')
  return kept
}

function systemFirst(turns: readonly Turn[], adjustments: Set<Adjustment>): Turn[] {
  const system = turns.filter((turn) => turn.role === 'system')
  if (system.length === 0 || (system.length === 1 && turns[0].role === 'system')) return [...turns]
  adjustments.add('system-joined')
  const content = system.map((turn) => turn.content).join('\n\n')
  return [{ role: 'system', content }, ...turns.filter((turn) => turn.role !== 'system')]
}

function merged(turns: readonly Turn[], adjustments: Set<Adjustment>): Turn[] {
  const out: Turn[] = []
  for (const turn of turns) {
    const previous = out.at(-1)
    const mergeable = previous?.role === turn.role && (turn.role === 'user' || turn.role === 'assistant')
    if (previous === undefined || !mergeable || callsOf(previous).length > 0) {
      out.push(turn)
      continue
    }
    adjustments.add('turns-merged')
    const content = [previous.content, turn.content].filter((text) => text !== '').join('\n\n')
    out[out.length - 1] = mergedTurn(previous, turn, content)
  }
  return out
}

/** An answer that has a part which is only context is context. */
function mergedTurn(previous: Turn, turn: Turn, content: string): Turn {
  if (turn.role !== 'assistant') return { ...turn, content }
  const isContext = turn.train === false || (previous.role === 'assistant' && previous.train === false)
  return isContext ? { ...turn, content, train: false } : { ...turn, content }
}

/** From the first user turn to the last answer: nothing else can be learned from. */
function cutToAnswers(turns: readonly Turn[], adjustments: Set<Adjustment>): Turn[] {
  const system = turns.filter((turn) => turn.role === 'system')
  const rest = turns.slice(system.length)
  const first = rest.findIndex((turn) => turn.role === 'user')
  const last = rest.findLastIndex((turn) => turn.role === 'assistant' && turn.train !== false)
  if (last < 0) throw new RecordError('nothing-to-train-on')
  if (first < 0 || first > last) throw new RecordError('no-user-turn')
  if (first > 0) {
    if (rest.slice(0, first).some((turn) => turn.role === 'tool')) throw new RecordError('tool-result-without-call')
    adjustments.add('leading-assistant-removed')
  }
  if (last < rest.length - 1) adjustments.add('trailing-turns-removed')
  return [...system, ...rest.slice(first, last + 1)]
}

/** Every call gets an id, and every result the id of the call that it answers: by order where the file names none. */
function withToolIds(turns: readonly Turn[], adjustments: Set<Adjustment>): Turn[] {
  let waiting: string[] = []
  return turns.map((turn, i) => {
    if (turn.role === 'assistant' && callsOf(turn).length > 0) {
      const toolCalls = callsOf(turn).map((call, k) => withId(call, i, k, adjustments))
      waiting = toolCalls.map((call) => call.id ?? '')
      if (new Set(waiting).size < waiting.length) throw new RecordError('tool-call-id', `turn ${i}`)
      return { ...turn, toolCalls }
    }
    if (turn.role !== 'tool') return turn
    const answered = answeredCall(turn, waiting, i)
    waiting = waiting.filter((id) => id !== answered)
    if (turn.toolCallId === undefined) adjustments.add('tool-call-id-added')
    return { ...turn, toolCallId: answered }
  })
}

function withId(call: ToolCall, turn: number, index: number, adjustments: Set<Adjustment>): ToolCall {
  if (call.id !== undefined) return call
  adjustments.add('tool-call-id-added')
  const id = createHash('sha256').update(`${turn}:${index}:${call.name}`).digest('hex').slice(0, 9)
  return { id, name: call.name, arguments: call.arguments }
}

function answeredCall(turn: ToolTurn, waiting: readonly string[], index: number): string {
  const answered = turn.toolCallId ?? waiting.at(0)
  if (answered === undefined || !waiting.includes(answered)) {
    throw new RecordError('tool-result-without-call', `turn ${index}`)
  }
  return answered
}

/** All results of a turn's calls must stand between it and the next turn; only the last turn may leave them open. */
function checkTools(turns: readonly Turn[]): void {
  let open = 0
  turns.forEach((turn, i) => {
    if (turn.role === 'tool') open--
    else if (open > 0) throw new RecordError('tool-result-missing', `turn ${i}`)
    else open = callsOf(turn).length
  })
}

function withoutTextBesideCalls(turns: readonly Turn[], adjustments: Set<Adjustment>): Turn[] {
  return turns.map((turn) => {
    if (callsOf(turn).length === 0 || turn.content === '') return turn
    adjustments.add('text-beside-tool-calls-removed')
    return { ...turn, content: '' }
  })
}

function callsOf(turn: Turn): ToolCall[] {
  return (turn as AssistantTurn).toolCalls ?? []
}
