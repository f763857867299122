import type { Tool, Turn } from '@mirastral/data'

/**
 * Takes the marks of Mistral's formats out of a message where they are plain text, which would begin or end an instruction.
 * Later versions use control tokens, which no message can contain.
 */
export function withoutMarks<T extends Turn>(turn: T): T {
  const marks = /\[(\/?)(INST|TOOL_CALLS|AVAILABLE_TOOLS|TOOL_RESULTS)\]/g
  return { ...turn, content: turn.content.replaceAll(marks, '[ $1$2 ]') }
}

const howToCall =
  'You can use tools. To call some, end your answer with [TOOL_CALLS] and a JSON list, as in ' +
  '[TOOL_CALLS] [{"name": "...", "arguments": {...}}]. You are then given their results. The tools:'

/**
 * A conversation with tools for a model whose format has none: the tools are described in the system turn, calls are the
 * text that `ToolCallReader` looks for, and results come as turns of the user, all spelled as in version 3 of the format.
 */
export function toolsAsText(turns: readonly Turn[], tools: readonly Tool[]): Turn[] {
  const texts = turns.map(turnAsText)
  if (tools.length === 0) return texts
  const listed = tools.map(({ name, description = '', parameters }) => ({
    type: 'function',
    function: { name, description, parameters },
  }))
  const content = `${howToCall}\n[AVAILABLE_TOOLS] ${JSON.stringify(listed)} [/AVAILABLE_TOOLS]`
  return [...texts, { role: 'system', content }]
}

function turnAsText(turn: Turn): Turn {
  if (turn.role === 'tool') {
    const result = JSON.stringify({ call_id: turn.toolCallId, content: turn.content })
    return { role: 'user', content: `[TOOL_RESULTS] ${result} [/TOOL_RESULTS]` }
  }
  if (turn.role !== 'assistant' || turn.toolCalls === undefined || turn.toolCalls.length === 0) return turn
  const calls = turn.toolCalls.map(({ name, arguments: args, id }) => ({ name, arguments: args, id }))
  const said = turn.content === '' ? '' : `${turn.content} `
  return { role: 'assistant', content: `${said}[TOOL_CALLS] ${JSON.stringify(calls)}` }
}
