import type { GenerationEvent, GenerationRequest, Notice, TextGenerator } from '@mirastral/infer'

/** One answer: pieces of text, `toolCallsPiece` where the control token stands, and how it ends. */
export interface ScriptedAnswer {
  readonly pieces: readonly string[]
  readonly reason?: 'stop' | 'length'
  readonly notice?: Notice
  /** Milliseconds between pieces. */
  readonly delayMs?: number
  /** Awaited before the second piece. */
  readonly hold?: Promise<void>
  /** Thrown after the pieces. */
  readonly error?: Error
}

export interface ScriptedGenerator extends TextGenerator {
  /** The requests so far, oldest first. */
  readonly requests: GenerationRequest[]
  /** Answers that are being given now, and the most there ever were at once. */
  readonly active: number
  readonly mostActive: number
}

export const toolCallsPiece = 'TOOL_CALLS'

const wait = (ms: number, signal: AbortSignal | undefined): Promise<void> =>
  new Promise((resolve, reject) => {
    signal?.throwIfAborted()
    const fail = (): void => {
      clearTimeout(timer)
      reject(signal?.reason as Error)
    }
    const timer = setTimeout(() => {
      signal?.removeEventListener('abort', fail)
      resolve()
    }, ms)
    signal?.addEventListener('abort', fail, { once: true })
  })

/**
 * A generator without a model: it gives the answers of a script in turn, or those of a function of the request. A token is
 * a piece; a prompt counts one token for every word.
 */
export function scriptedGenerator(
  script: readonly ScriptedAnswer[] | ((request: GenerationRequest, n: number) => ScriptedAnswer),
  options: { readonly contextLength?: number; readonly modelId?: string } = {},
): ScriptedGenerator {
  const requests: GenerationRequest[] = []
  let active = 0
  let mostActive = 0
  const answerOf = typeof script === 'function' ? script : (_: GenerationRequest, n: number) => script[n]

  async function* generate(
    request: GenerationRequest,
    signal?: AbortSignal,
  ): AsyncGenerator<GenerationEvent, void, void> {
    signal?.throwIfAborted()
    const answer = answerOf(request, requests.push(request) - 1)
    if (answer === undefined) throw new Error('internal: the script has no further answer')
    active++
    mostActive = Math.max(mostActive, active)
    let tokens = 0
    try {
      if (answer.notice !== undefined) yield { type: 'notice', notice: answer.notice }
      for (const piece of answer.pieces) {
        if (tokens === 1) await answer.hold
        await wait(answer.delayMs ?? 0, signal)
        yield tokenEvent(piece, tokens++, request)
      }
      if (answer.error !== undefined) throw answer.error
      const promptTokens = 'prompt' in request ? words(request.prompt) : count(request.messages)
      yield { type: 'finish', reason: answer.reason ?? 'stop', usage: { promptTokens, completionTokens: tokens } }
    } finally {
      active--
    }
  }

  return {
    modelId: options.modelId ?? 'scripted',
    contextLength: options.contextLength ?? 4096,
    toolCallMarker: 'control',
    requests,
    get active() {
      return active
    },
    get mostActive() {
      return mostActive
    },
    countTokens: (messages, tools = []) => count(messages) + tools.length,
    generate,
  }
}

function tokenEvent(piece: string, index: number, request: GenerationRequest): GenerationEvent {
  const isMarker = piece === toolCallsPiece
  const text = isMarker ? '' : piece
  const alternative = { tokenId: index, text, bytes: Buffer.from(text), logprob: -0.25 }
  return {
    type: 'token',
    tokenId: index,
    text,
    ...(isMarker ? { toolCalls: true as const } : {}),
    ...(request.logprobs === undefined
      ? {}
      : { logprobs: { ...alternative, top: Array.from({ length: request.logprobs }, () => alternative) } }),
  }
}

const words = (text: string): number => text.split(/\s+/).filter((word) => word !== '').length
const count = (messages: readonly { content: string }[]): number =>
  messages.reduce((total, { content }) => total + words(content) + 1, 0)
