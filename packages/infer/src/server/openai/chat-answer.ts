import { newCallId } from '../../call-ids.js'
import type { GenerationEvent, Notice, TokenLogprobs, Usage } from '../../text-generator.js'
import { ToolCallReader, toolCallsMarker } from '../../tool-calls.js'
import { noticeExtension, wireLogprob, wireToolCall, wireUsage } from './wire.js'
import type { WireLogprob, WireToolCall, WireUsage } from './wire.js'

export interface AnswerHead {
  readonly id: string
  /** Seconds since 1970. */
  readonly created: number
  readonly model: string
}

type WireFinishReason = 'stop' | 'length' | 'tool_calls' | 'content_filter'

/** What one answer of the model comes to, piece by piece. */
type Piece =
  | { readonly kind: 'notice'; readonly notice: Notice }
  | { readonly kind: 'text'; readonly text: string; readonly logprobs: readonly WireLogprob[] }
  | { readonly kind: 'toolCalls'; readonly calls: readonly WireToolCall[] }
  | { readonly kind: 'finish'; readonly reason: WireFinishReason; readonly usage: Usage }

export interface ChatAnswerOptions {
  readonly toolCallMarker: 'control' | 'text'
  /** Whether the request offered tools; without them the marker of tool calls means nothing. */
  readonly hasTools: boolean
  readonly parallelToolCalls: boolean
}

/** Separates text and tool calls. Calls that cannot be read come as text, so that nothing the model said is lost. */
async function* pieces(
  events: AsyncIterable<GenerationEvent>,
  options: ChatAnswerOptions,
): AsyncGenerator<Piece, void, void> {
  const reader = new ToolCallReader(options.hasTools ? options.toolCallMarker : 'control')
  for await (const event of events) {
    if (event.type === 'notice') yield { kind: 'notice', notice: event.notice }
    else if (event.type === 'token') {
      const text = reader.push(options.hasTools ? event : { text: event.text })
      const logprobs = wireLogprobs(reader.calling ? undefined : event.logprobs)
      if (text !== '' || logprobs.length > 0) yield { kind: 'text', text, logprobs }
    } else {
      const { text, parse } = reader.finish()
      const rest = parse?.ok === false ? toolCallsMarker + parse.text : text
      if (rest !== '') yield { kind: 'text', text: rest, logprobs: [] }
      const calls = parse?.ok === true ? parse.calls.slice(0, options.parallelToolCalls ? undefined : 1) : []
      if (calls.length > 0) yield { kind: 'toolCalls', calls: calls.map((call) => wireToolCall(call, newCallId())) }
      yield { kind: 'finish', reason: calls.length > 0 ? 'tool_calls' : event.reason, usage: event.usage }
    }
  }
}

const wireLogprobs = (logprobs: TokenLogprobs | undefined): WireLogprob[] =>
  logprobs === undefined ? [] : [wireLogprob(logprobs)]

export interface ChatCompletion extends AnswerHead {
  readonly object: 'chat.completion'
  readonly choices: readonly [
    {
      readonly index: 0
      readonly message: {
        readonly role: 'assistant'
        readonly content: string | null
        readonly refusal: null
        readonly tool_calls?: readonly WireToolCall[]
      }
      readonly logprobs: { readonly content: readonly WireLogprob[]; readonly refusal: null } | null
      readonly finish_reason: WireFinishReason
    },
  ]
  readonly usage: WireUsage
}

/** The body of an answer that is sent as a whole. */
export async function chatCompletion(
  events: AsyncIterable<GenerationEvent>,
  head: AnswerHead,
  options: ChatAnswerOptions & { readonly logprobs: boolean },
): Promise<ChatCompletion> {
  let content = ''
  const logprobs: WireLogprob[] = []
  const calls: WireToolCall[] = []
  const notices: Notice[] = []
  for await (const piece of pieces(events, options)) {
    if (piece.kind === 'notice') notices.push(piece.notice)
    else if (piece.kind === 'toolCalls') calls.push(...piece.calls)
    else if (piece.kind === 'text') {
      content += piece.text
      logprobs.push(...piece.logprobs)
    } else {
      const message = {
        role: 'assistant' as const,
        content: content === '' && calls.length > 0 ? null : content,
        refusal: null,
        ...(calls.length > 0 ? { tool_calls: calls } : {}),
      }
      return {
        ...head,
        object: 'chat.completion',
        choices: [
          {
            index: 0,
            message,
            logprobs: options.logprobs ? { content: logprobs, refusal: null } : null,
            finish_reason: piece.reason,
          },
        ],
        usage: wireUsage(piece.usage),
        ...noticeExtension(notices),
      }
    }
  }
  throw new Error('internal: the generator ended without a finish event')
}

/** The chunks of an answer that is sent as it comes. */
export async function* chatChunks(
  events: AsyncIterable<GenerationEvent>,
  head: AnswerHead,
  options: ChatAnswerOptions & { readonly logprobs: boolean; readonly includeUsage: boolean },
): AsyncGenerator<Record<string, unknown>, void, void> {
  const chunk = (delta: object, rest: { finish_reason?: WireFinishReason; logprobs?: object } = {}) => ({
    ...head,
    object: 'chat.completion.chunk',
    choices: [{ index: 0, delta, logprobs: null, finish_reason: null, ...rest }],
    ...(options.includeUsage ? { usage: null } : {}),
  })
  yield chunk({ role: 'assistant', content: '', refusal: null })
  for await (const piece of pieces(events, options)) {
    switch (piece.kind) {
      case 'notice':
        yield { ...chunk({}), ...noticeExtension([piece.notice]) }
        break
      case 'text': {
        const logprobs = options.logprobs ? { logprobs: { content: piece.logprobs, refusal: null } } : {}
        yield chunk({ content: piece.text }, logprobs)
        break
      }
      case 'toolCalls':
        for (const [index, call] of piece.calls.entries()) yield chunk({ tool_calls: [{ index, ...call }] })
        break
      case 'finish':
        yield chunk({}, { finish_reason: piece.reason })
        if (options.includeUsage) {
          yield { ...head, object: 'chat.completion.chunk', choices: [], usage: wireUsage(piece.usage) }
        }
    }
  }
}
