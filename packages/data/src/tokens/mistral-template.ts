import { createHash } from 'node:crypto'
import type { AssistantTurn, Tool, ToolCall, Turn } from '../conversation.js'
import { templateError } from './chat-template.js'
import type { ChatTemplate, RenderOptions } from './chat-template.js'
import { pythonJson } from './python-json.js'
import { control, text } from './segments.js'
import type { Segment } from './segments.js'

/** v1: Mistral 7B Instruct v0.1 and v0.2. v3: v0.3. v3-tekken: Nemo, the same without spaces. */
export type MistralVersion = 'mistral-v1' | 'mistral-v3' | 'mistral-v3-tekken'

/**
 * Mistral's instruct formats by the rules of mistral-common (`tokens/tokenizers/instruct.py`), which the models were trained
 * with. The Jinja template of the v0.3 repositories writes the same text, but loses the system prompt of a conversation
 * that ends with an assistant turn; here it always stands before the last user message (v1: the first).
 */
export function mistralTemplate(version: MistralVersion, bos: string, eos: string): ChatTemplate {
  const render = version === 'mistral-v1' ? renderV1(bos, eos) : renderV3(bos, eos, version === 'mistral-v3' ? ' ' : '')
  return { name: version, textBesideToolCalls: false, render }
}

function renderV1(bos: string, eos: string): ChatTemplate['render'] {
  return (turns, { tools = [] }) => {
    if (tools.length > 0 || turns.some(usesTools)) throw templateError(turns, 'mistral-v1 has no tools')
    const { system, rest, offset } = splitSystem(turns)
    const segments: Segment[] = [control(bos)]
    rest.forEach((turn, i) => {
      if (turn.role === 'user') {
        const content = i === 0 && system !== '' ? `${system}\n\n${turn.content}` : turn.content
        segments.push(text(` [INST] ${content} [/INST]`))
      } else {
        segments.push(text(` ${turn.content}`, i + offset), control(eos, i + offset))
      }
    })
    return segments
  }
}

function renderV3(bos: string, eos: string, space: string): ChatTemplate['render'] {
  return (turns, { tools = [] }: RenderOptions) => {
    const { system, rest, offset } = splitSystem(turns)
    const lastUser = rest.findLastIndex((turn) => turn.role === 'user')
    const segments: Segment[] = [control(bos)]
    rest.forEach((turn, i) => {
      if (turn.role === 'user') {
        if (i === lastUser && tools.length > 0) segments.push(...availableTools(tools, space))
        const content = i === lastUser && system !== '' ? `${system}\n\n${turn.content}` : turn.content
        segments.push(control('[INST]'), text(space + content), control('[/INST]'))
      } else if (turn.role === 'assistant') {
        segments.push(...assistantV3(turns, turn, i + offset, eos, space))
      } else if (turn.role === 'tool') {
        if (turn.toolCallId === undefined) throw templateError(turns, 'a tool result needs the id of its call')
        segments.push(control('[TOOL_RESULTS]'), text(space + toolResult(turn.content, turn.toolCallId)))
        segments.push(control('[/TOOL_RESULTS]'))
      }
    })
    return segments
  }
}

function availableTools(tools: readonly Tool[], space: string): Segment[] {
  const listed = tools.map(({ name, description = '', parameters }) => ({
    type: 'function',
    function: { name, description, parameters },
  }))
  return [control('[AVAILABLE_TOOLS]'), text(space + pythonJson(listed)), control('[/AVAILABLE_TOOLS]')]
}

function assistantV3(
  turns: readonly Turn[],
  turn: AssistantTurn,
  index: number,
  eos: string,
  space: string,
): Segment[] {
  const calls = turn.toolCalls ?? []
  if (calls.length === 0) {
    return [text(space + withoutSpacesAtEnd(turn.content), index), control(eos, index)]
  }
  if (turn.content !== '') throw templateError(turns, 'an assistant turn holds text or tool calls, not both')
  return [
    control('[TOOL_CALLS]', index, true),
    text(space + pythonJson(calls.map(writtenCall)), index, true),
    control(eos, index, true),
  ]
}

/** Python's `rstrip(" ")`. */
function withoutSpacesAtEnd(content: string): string {
  let end = content.length
  while (end > 0 && content[end - 1] === ' ') end--
  return content.slice(0, end)
}

function writtenCall({ id, name, arguments: args }: ToolCall): Record<string, unknown> {
  return id === undefined ? { name, arguments: args } : { name, arguments: args, id: mistralCallId(id) }
}

function toolResult(content: string, toolCallId: string): string {
  return pythonJson({ content: parsedIfJson(content), call_id: mistralCallId(toolCallId) })
}

function parsedIfJson(content: string): unknown {
  try {
    return JSON.parse(content) as unknown
  } catch {
    return content
  }
}

const ALPHANUMERIC = '0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz'

/** Mistral's ids have exactly nine letters and digits; another id is mapped to such a one by its hash. */
export function mistralCallId(id: string): string {
  if (/^[a-zA-Z0-9]{9}$/.test(id)) return id
  const hash = createHash('sha256').update(id).digest()
  return Array.from(hash.subarray(0, 9), (byte) => ALPHANUMERIC[byte % ALPHANUMERIC.length]).join('')
}

function usesTools(turn: Turn): boolean {
  return turn.role === 'tool' || (turn.role === 'assistant' && (turn.toolCalls?.length ?? 0) > 0)
}

/** The system text, and the other turns, which must alternate as mistral-common's validator demands. */
function splitSystem(turns: readonly Turn[]): { system: string; rest: readonly Turn[]; offset: number } {
  const offset = turns.findIndex((turn) => turn.role !== 'system')
  const rest = offset < 0 ? [] : turns.slice(offset)
  let expectsUser = true
  let calling = false
  for (const turn of rest) {
    if (turn.role === 'system') throw templateError(turns, 'a system turn must stand at the beginning')
    if (turn.role === 'tool' && !calling) throw templateError(turns, 'a tool result must follow a tool call')
    if (turn.role === 'user' && !expectsUser) throw templateError(turns, 'user and assistant turns must alternate')
    if (turn.role === 'assistant' && expectsUser) throw templateError(turns, 'user and assistant turns must alternate')
    if (turn.role === 'assistant') calling = usesTools(turn)
    // After a tool call the assistant goes on, once the results are in.
    expectsUser = turn.role === 'assistant' && !calling
  }
  if (rest.length === 0) throw templateError(turns, 'a conversation needs a user turn')
  const system = turns.slice(0, Math.max(offset, 0)).map((turn) => turn.content)
  return { system: system.join('\n\n'), rest, offset }
}
