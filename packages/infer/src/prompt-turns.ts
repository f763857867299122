import type { Turn } from '@mirastral/data'
import { InferError } from './errors.js'

/** What the templates of different models can express. */
export interface TemplateForm {
  readonly name: string
  /** Whether an assistant turn may hold both text and tool calls. */
  readonly textBesideToolCalls: boolean
}

/**
 * A conversation as clients send it, in the form that chat templates take: one system turn at the beginning, user and
 * assistant turns in alternation (neighbours are joined by an empty line, as in mistral-common), text beside tool calls
 * left out where the template has no place for it. Throws `InferError` when there is nothing to answer.
 */
export function promptTurns(turns: readonly Turn[], template: TemplateForm): Turn[] {
  const system = turns.filter((turn) => turn.role === 'system').map((turn) => turn.content)
  const out: Turn[] = system.length === 0 ? [] : [{ role: 'system', content: system.join('\n\n') }]
  for (const turn of turns) {
    if (turn.role === 'system') continue
    const fitted = fitToTemplate(turn, template)
    const previous = out.at(-1)
    const joined = previous === undefined ? undefined : joinTurns(previous, fitted)
    if (joined === undefined) out.push(fitted)
    else out[out.length - 1] = joined
  }
  const last = out.at(-1)?.role
  if (last !== 'user' && last !== 'tool') {
    const got = last === undefined ? 'no turn' : `a turn of the ${last}`
    const message = `generate: a conversation must end with a turn of the user or a tool, got ${got}`
    throw new InferError('MIRASTRAL_INFER_OPTION', message)
  }
  return template.name === 'mistral-v1' ? out.map(withoutInstructionMarks) : out
}

function fitToTemplate(turn: Turn, template: TemplateForm): Turn {
  if (turn.role !== 'assistant' || (turn.toolCalls ?? []).length === 0 || template.textBesideToolCalls) return turn
  return { ...turn, content: '' }
}

function joinTurns(previous: Turn, turn: Turn): Turn | undefined {
  const content = `${previous.content}\n\n${turn.content}`
  if (previous.role === 'user' && turn.role === 'user') return { role: 'user', content }
  if (previous.role !== 'assistant' || turn.role !== 'assistant') return undefined
  const calls = [previous, turn].some((t) => (t.toolCalls ?? []).length > 0)
  return calls ? undefined : { role: 'assistant', content }
}

/**
 * Version 1 of Mistral's format marks instructions with plain text, so the same text in a message would begin or end one.
 * Later versions use control tokens, which no message can contain.
 */
function withoutInstructionMarks<T extends Turn>(turn: T): T {
  return { ...turn, content: turn.content.replaceAll(/\[(\/?)INST\]/g, '[ $1INST ]') }
}
