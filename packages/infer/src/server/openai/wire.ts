import type { ToolCall } from '@mirastral/data'
import type { Notice, TokenLogprobs, Usage } from '../../text-generator.js'

/** The parts of OpenAI's wire format that both endpoints use. */

export interface WireUsage {
  readonly prompt_tokens: number
  readonly completion_tokens: number
  readonly total_tokens: number
}

export const wireUsage = ({ promptTokens, completionTokens }: Usage): WireUsage => ({
  prompt_tokens: promptTokens,
  completion_tokens: completionTokens,
  total_tokens: promptTokens + completionTokens,
})

interface WireAlternative {
  readonly token: string
  readonly logprob: number
  readonly bytes: readonly number[]
}

export interface WireLogprob extends WireAlternative {
  readonly top_logprobs: readonly WireAlternative[]
}

/** JSON has no infinity; OpenAI writes -9999 for a probability of nothing. */
const finite = (logprob: number): number => Math.max(logprob, -9999)

export function wireLogprob(logprobs: TokenLogprobs): WireLogprob {
  const alternative = ({ text, logprob, bytes }: TokenLogprobs['top'][number]): WireAlternative => ({
    token: text,
    logprob: finite(logprob),
    bytes: Array.from(bytes),
  })
  return { ...alternative(logprobs), top_logprobs: logprobs.top.map(alternative) }
}

/** The format of completions without chat: parallel lists. */
export interface WireTextLogprobs {
  readonly tokens: string[]
  readonly token_logprobs: number[]
  readonly top_logprobs: Record<string, number>[]
  readonly text_offset: number[]
}

export function wireTextLogprobs(all: readonly TokenLogprobs[], offset = 0): WireTextLogprobs {
  const out: WireTextLogprobs = { tokens: [], token_logprobs: [], top_logprobs: [], text_offset: [] }
  let at = offset
  for (const { text, logprob, top } of all) {
    out.tokens.push(text)
    out.token_logprobs.push(finite(logprob))
    out.top_logprobs.push(Object.fromEntries(top.map((t) => [t.text, finite(t.logprob)])))
    out.text_offset.push(at)
    at += text.length
  }
  return out
}

export interface WireToolCall {
  readonly id: string
  readonly type: 'function'
  readonly function: { readonly name: string; readonly arguments: string }
}

export const wireToolCall = ({ name, arguments: args }: ToolCall, id: string): WireToolCall => ({
  id,
  type: 'function',
  function: { name, arguments: JSON.stringify(args) },
})

/** What MiraStral adds to the format: notices of the guard. Clients of the OpenAI API ignore fields that they do not know. */
export const noticeExtension = (notices: readonly Notice[]): { mirastral?: { notices: readonly Notice[] } } =>
  notices.length === 0 ? {} : { mirastral: { notices } }
