import type { FinishReason, GenerationEvent, Notice, TokenLogprobs } from '../../text-generator.js'
import type { AnswerHead } from './chat-answer.js'
import { noticeExtension, wireTextLogprobs, wireUsage } from './wire.js'

/** The body of `/v1/completions` for an answer that is sent as a whole. */
export async function textCompletion(
  events: AsyncIterable<GenerationEvent>,
  head: AnswerHead,
  options: { readonly logprobs: boolean },
): Promise<Record<string, unknown>> {
  let text = ''
  const logprobs: TokenLogprobs[] = []
  const notices: Notice[] = []
  for await (const event of events) {
    if (event.type === 'notice') notices.push(event.notice)
    else if (event.type === 'token') {
      text += event.text
      if (event.logprobs !== undefined) logprobs.push(event.logprobs)
    } else {
      const wire = options.logprobs ? wireTextLogprobs(logprobs) : null
      return {
        ...head,
        object: 'text_completion',
        choices: [{ index: 0, text, logprobs: wire, finish_reason: event.reason }],
        usage: wireUsage(event.usage),
        ...noticeExtension(notices),
      }
    }
  }
  throw new Error('internal: the generator ended without a finish event')
}

/** The chunks of `/v1/completions`. */
export async function* textChunks(
  events: AsyncIterable<GenerationEvent>,
  head: AnswerHead,
  options: { readonly logprobs: boolean; readonly includeUsage: boolean },
): AsyncGenerator<Record<string, unknown>, void, void> {
  const chunk = (text: string, rest: { finish_reason?: FinishReason; logprobs?: object } = {}) => ({
    ...head,
    object: 'text_completion',
    choices: [{ index: 0, text, logprobs: null, finish_reason: null, ...rest }],
  })
  let offset = 0
  for await (const event of events) {
    if (event.type === 'notice') yield { ...chunk(''), ...noticeExtension([event.notice]) }
    else if (event.type === 'token') {
      const { text, logprobs } = event
      const wire = options.logprobs && logprobs !== undefined ? { logprobs: wireTextLogprobs([logprobs], offset) } : {}
      if (text !== '' || 'logprobs' in wire) yield chunk(text, wire)
      offset += logprobs?.text.length ?? 0
    } else {
      yield chunk('', { finish_reason: event.reason })
      if (options.includeUsage) {
        yield { ...head, object: 'text_completion', choices: [], usage: wireUsage(event.usage) }
      }
    }
  }
}
