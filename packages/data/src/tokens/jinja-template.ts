import { Template } from '@huggingface/jinja'
import type { Tool, Turn } from '../conversation.js'
import { assistantSpans } from './assistant-spans.js'
import type { AssistantSpan } from './assistant-spans.js'
import { templateError } from './chat-template.js'
import type { ChatTemplate, RenderOptions } from './chat-template.js'
import { MARK_VARIABLES, hasGenerationBlocks, markGenerationBlocks, withoutMarks } from './generation-blocks.js'
import type { Segment } from './segments.js'
import { SpecialTokens } from './special-tokens.js'
import { tokenizerError } from './tokenizer-files.js'
import type { TokenizerConfig } from './tokenizer-files.js'

/**
 * A model's own Jinja chat template, rendered by @huggingface/jinja. A system prompt goes into the first user turn where
 * the template has no place for one.
 */
export class JinjaTemplate implements ChatTemplate {
  readonly name = 'jinja'
  readonly textBesideToolCalls = true
  private readonly source: string
  private readonly template: Template
  private readonly hasBlocks: boolean
  private readonly variables: Record<string, string>
  private readonly specials: SpecialTokens
  private readonly takesSystem: boolean

  /** @throws DataError MIRASTRAL_DATA_TOKENIZER where the template cannot be parsed. */
  constructor(source: string, config: TokenizerConfig, specialTokens: readonly string[]) {
    this.source = source
    this.hasBlocks = hasGenerationBlocks(source)
    this.template = parseTemplate(markGenerationBlocks(source))
    const names = ['bos_token', 'eos_token', 'unk_token', 'pad_token'] as const
    this.variables = Object.fromEntries(
      names.flatMap((name) => (config[name] === undefined ? [] : [[name, config[name]]])),
    )
    this.specials = new SpecialTokens(specialTokens)
    const probe = this.tryRun(
      [
        { role: 'system', content: 'probe' },
        { role: 'user', content: '' },
      ],
      {},
    )
    this.takesSystem = probe?.includes('probe') === true
  }

  render(turns: readonly Turn[], options: RenderOptions): Segment[] {
    const prepared = this.prepare(turns)
    const safeOptions = { ...options, tools: mapStrings(options.tools ?? [], (s) => this.specials.protect(s)) }
    const written = this.run(prepared, safeOptions)
    // Nothing is trained on in a prompt, so it need not be certain what the assistant said in it.
    const spans = options.addGenerationPrompt === true ? [] : this.spansIn(prepared, written, safeOptions)
    const plain = withoutMarks(written)
    const folded = turns.length - prepared.length
    const segments: Segment[] = []
    let at = 0
    for (const { start, end, turn } of spans) {
      const toolCall = hasToolCalls(prepared[turn])
      segments.push(...this.specials.split(plain.slice(at, start), -1, false))
      segments.push(...this.specials.split(plain.slice(start, end), turn + folded, toolCall))
      at = end
    }
    segments.push(...this.specials.split(plain.slice(at), -1, false))
    return segments
  }

  private spansIn(turns: readonly Turn[], written: string, options: RenderOptions): AssistantSpan[] {
    return assistantSpans(
      {
        tryRender: (some, addGenerationPrompt) => this.tryRun(some, { ...options, addGenerationPrompt }),
        hasBlocks: this.hasBlocks,
        specials: this.specials,
      },
      turns,
      written,
    )
  }

  private prepare(turns: readonly Turn[]): Turn[] {
    const [first, second] = turns
    const folds = !this.takesSystem && turns.length > 1 && first.role === 'system' && second.role === 'user'
    const folded = folds ? [{ ...second, content: `${first.content}\n\n${second.content}` }, ...turns.slice(2)] : turns
    return mapStrings([...folded], (content) => {
      if (/[\uFDD0-\uFDD3]/.test(content)) throw templateError(turns, 'a turn must not hold Unicode noncharacters')
      return this.specials.protect(content)
    })
  }

  private tryRun(turns: readonly Turn[], options: RenderOptions): string | null {
    try {
      return this.run(turns, options)
    } catch {
      return null
    }
  }

  private run(turns: readonly Turn[], { tools = [], addGenerationPrompt = false }: RenderOptions): string {
    try {
      return this.template.render({
        messages: turns.map(asMessage),
        tools: tools.length === 0 ? null : tools.map(asTool),
        add_generation_prompt: addGenerationPrompt,
        ...this.variables,
        ...MARK_VARIABLES,
      })
    } catch (error) {
      // The message may quote the conversation, unless it stands in the template itself.
      const message = error instanceof Error ? error.message : ''
      const known = message.length > 8 && this.source.includes(message)
      throw templateError(turns, known ? message : 'the template refuses this conversation')
    }
  }
}

function hasToolCalls(turn: Turn): boolean {
  return turn.role === 'assistant' && (turn.toolCalls?.length ?? 0) > 0
}

/** The message that Transformers gives to a template. */
function asMessage(turn: Turn): Record<string, unknown> {
  switch (turn.role) {
    case 'system':
    case 'user':
      return { role: turn.role, content: turn.content }
    case 'assistant': {
      if (!hasToolCalls(turn)) return { role: 'assistant', content: turn.content }
      const calls = (turn.toolCalls ?? []).map(({ id, name, arguments: args }) => ({
        ...(id === undefined ? {} : { id }),
        type: 'function',
        function: { name, arguments: args },
      }))
      return { role: 'assistant', content: turn.content, tool_calls: calls }
    }
    case 'tool': {
      const { content, toolCallId, name } = turn
      return {
        role: 'tool',
        content,
        ...(toolCallId === undefined ? {} : { tool_call_id: toolCallId }),
        ...(name === undefined ? {} : { name }),
      }
    }
  }
}

function asTool({ name, description, parameters }: Tool): Record<string, unknown> {
  const described = description === undefined ? { name, parameters } : { name, description, parameters }
  return { type: 'function', function: described }
}

/** A copy in which every string that is a value has been changed; keys stay. */
function mapStrings<T>(value: T, change: (text: string) => string): T {
  if (typeof value === 'string') return change(value) as T
  if (Array.isArray(value)) return value.map((item: unknown) => mapStrings(item, change)) as T
  if (typeof value !== 'object' || value === null) return value
  return Object.fromEntries(
    Object.entries(value).map(([key, member]) => [key, mapStrings(member as unknown, change)]),
  ) as T
}

function parseTemplate(source: string): Template {
  try {
    return new Template(source)
  } catch (error) {
    const reason = error instanceof Error ? error.message : 'unknown error'
    throw tokenizerError(`the chat template is not valid Jinja (${reason})`)
  }
}
