import type { Turn } from '../conversation.js'
import { templateError } from './chat-template.js'
import { END, START, markedSpans, withoutMarks } from './generation-blocks.js'
import type { Span } from './generation-blocks.js'
import type { SpecialTokens } from './special-tokens.js'

/** What the assistant produced in one turn. */
export interface AssistantSpan extends Span {
  turn: number
}

export interface SpanSource {
  /** The rendered text, with marks where the template has generation blocks; null where it refuses these turns. */
  tryRender(turns: readonly Turn[], addGenerationPrompt: boolean): string | null
  readonly hasBlocks: boolean
  readonly specials: SpecialTokens
}

/**
 * Finds what each assistant turn produced in a rendered conversation (`written`, with marks).
 *
 * By `{% generation %}` blocks where the template has them; else by rendering turn by turn, which must only ever append;
 * else by marks around the assistant's text, which must change nothing but themselves. The end-of-turn token belongs to
 * the turn.
 *
 * @throws DataError MIRASTRAL_DATA_TEMPLATE where none of the ways gives a certain answer.
 */
export function assistantSpans(source: SpanSource, turns: readonly Turn[], written: string): AssistantSpan[] {
  const assistants = turns.flatMap((turn, i) => (turn.role === 'assistant' ? [i] : []))
  if (assistants.length === 0) return []
  if (source.hasBlocks) return blockSpans(source, turns, written, assistants)
  const spans = appendedSpans(source, turns, written, assistants) ?? textSpans(source, turns, written, assistants)
  if (spans !== null) return spans.map((span) => toEndOfTurn(source.specials, written, span))
  throw templateError(
    turns,
    'this template rewrites earlier turns, so what the assistant produced is uncertain; put {% generation %} blocks into it',
  )
}

function blockSpans(
  source: SpanSource,
  turns: readonly Turn[],
  written: string,
  assistants: readonly number[],
): AssistantSpan[] {
  const all = markedSpans(written)
  const count = assistants.length
  // Some templates open a block for what a turn does not have, or write the end of the last turn in a block of its own.
  const spans = all?.length === count ? all : (all?.filter(({ start, end }) => end > start) ?? [])
  const plain = withoutMarks(written)
  const areEnds = spans
    .slice(count)
    .every(({ start, end }) => source.specials.at(plain, start) === plain.slice(start, end))
  if (spans.length < count || !areEnds) {
    throw templateError(
      turns,
      `the template must write one generation block per assistant turn (${count}), got ${all?.length ?? 'blocks inside each other'}`,
    )
  }
  return spans.map((span, i) => ({ ...span, turn: assistants[Math.min(i, count - 1)] }))
}

/** What the rendering through a turn has more than the prompt for it, provided that nothing before it ever changes. */
function appendedSpans(
  source: SpanSource,
  turns: readonly Turn[],
  written: string,
  assistants: readonly number[],
): AssistantSpan[] | null {
  const spans: AssistantSpan[] = []
  for (const turn of assistants) {
    const prompt = source.tryRender(turns.slice(0, turn), true)
    const through = source.tryRender(turns.slice(0, turn + 1), false)
    if (prompt === null || !through?.startsWith(prompt) || !written.startsWith(through)) return null
    spans.push({ start: prompt.length, end: through.length, turn })
  }
  return spans
}

/** Marks around the text of each assistant turn. A tool call has no text to put them around. */
function textSpans(
  source: SpanSource,
  turns: readonly Turn[],
  written: string,
  assistants: readonly number[],
): AssistantSpan[] | null {
  if (turns.some((turn) => turn.role === 'assistant' && (turn.toolCalls?.length ?? 0) > 0)) return null
  const marked = turns.map((turn) =>
    turn.role === 'assistant' ? { ...turn, content: START + turn.content.trim() + END } : turn,
  )
  const withMarks = source.tryRender(marked, false)
  if (withMarks === null || withoutMarks(withMarks) !== written) return null
  const spans = markedSpans(withMarks)
  if (spans?.length !== assistants.length) return null
  return spans.map((span, i) => ({
    ...span,
    turn: assistants[i],
    start: producedFrom(source, turns, written, span, assistants[i]),
  }))
}

/**
 * Where the model begins to speak: where the prompt ends, if it is known to stand there unchanged. Some templates put an
 * empty thought before the text of the last answer.
 */
function producedFrom(source: SpanSource, turns: readonly Turn[], written: string, span: Span, turn: number): number {
  const prompt = source.tryRender(turns.slice(0, turn), true)
  return prompt !== null && written.startsWith(prompt) && prompt.length <= span.start ? prompt.length : span.start
}

/** To the end of the token that ends the turn, and not into the white space between turns. */
function toEndOfTurn(specials: SpecialTokens, written: string, span: AssistantSpan): AssistantSpan {
  const inside = written.slice(span.start, span.end).trimEnd()
  if (specials.endsWithToken(inside)) return { ...span, end: span.start + inside.length }
  const next = specials.at(written, span.end)
  return next === undefined ? span : { ...span, end: span.end + next.length }
}
