import type { Tool, Turn } from '@mirastral/data'
import { InferError } from './errors.js'
import { toolsAsText, withoutMarks } from './tools-as-text.js'

/** What the templates of different models can express. */
export interface TemplateForm {
  readonly name: string
  /** Whether an assistant turn may hold both text and tool calls. */
  readonly textBesideToolCalls: boolean
}

export interface TemplateInput {
  readonly turns: readonly Turn[]
  readonly tools: readonly Tool[]
}

/** Mistral's first format marks instructions with plain text and knows no tools. */
const marksAreText = (template: TemplateForm): boolean => template.name === 'mistral-v1'

/**
 * A conversation as clients send it, in the form that chat templates take: one system turn at the beginning, user and
 * assistant turns in alternation (neighbours are joined by an empty line, as in mistral-common), text beside tool calls
 * left out where the template has no place for it, and tools as text where it has none for them. Throws `InferError` when
 * there is nothing to answer.
 */
export function templateInput({ turns, tools }: TemplateInput, template: TemplateForm): TemplateInput {
  const last = turns.findLast((turn) => turn.role !== 'system')?.role
  if (last !== 'user' && last !== 'tool') {
    const got = last === undefined ? 'no turn' : `a turn of the ${last}`
    const message = `generate: a conversation must end with a turn of the user or a tool, got ${got}`
    throw new InferError('MIRASTRAL_INFER_OPTION', message)
  }
  if (!marksAreText(template)) return { turns: joined(turns.map((turn) => fitToTemplate(turn, template))), tools }
  return { turns: joined(toolsAsText(turns.map(withoutMarks), tools)), tools: [] }
}

function fitToTemplate(turn: Turn, template: TemplateForm): Turn {
  if (turn.role !== 'assistant' || (turn.toolCalls ?? []).length === 0 || template.textBesideToolCalls) return turn
  return { ...turn, content: '' }
}

function joined(turns: readonly Turn[]): Turn[] {
  const system = turns.filter((turn) => turn.role === 'system').map((turn) => turn.content)
  const out: Turn[] = system.length === 0 ? [] : [{ role: 'system', content: system.join('\n\n') }]
  for (const turn of turns) {
    if (turn.role === 'system') continue
    const previous = out.at(-1)
    const both = previous === undefined ? undefined : joinTurns(previous, turn)
    if (both === undefined) out.push(turn)
    else out[out.length - 1] = both
  }
  return out
}

function joinTurns(previous: Turn, turn: Turn): Turn | undefined {
  const content = `${previous.content}\n\n${turn.content}`
  if (previous.role === 'user' && turn.role === 'user') return { role: 'user', content }
  if (previous.role !== 'assistant' || turn.role !== 'assistant') return undefined
  const calls = [previous, turn].some((t) => (t.toolCalls ?? []).length > 0)
  return calls ? undefined : { role: 'assistant', content }
}
