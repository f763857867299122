import type { Turn } from '@mirastral/data'
import { InferError } from './errors.js'
import { fitHistory } from './history.js'
import { profilePrompt } from './profile/profile-prompt.js'
import type { ProfileEntry } from './profile/profile-store.js'
import { answerTokens, reply } from './reply.js'
import type { ChatEvent, ReplyLimits } from './reply.js'
import type { GenerationOptions, TextGenerator } from './text-generator.js'
import type { ChatTool } from './tools.js'

/** Turns old exchanges into a short text that is kept in their place. `earlier` is the summary of what came before them. */
export type Summarize = (dropped: readonly Turn[], earlier: string, signal?: AbortSignal) => Promise<string>

export interface ChatOptions {
  readonly generator: TextGenerator
  readonly systemPrompt?: string
  /** The profile entries to use, asked for before every reply; `ProfileStore.show` fits. */
  readonly profile?: () => readonly ProfileEntry[]
  /** Tokens of the system prompt that the profile may take. Default 256. */
  readonly profileTokens?: number
  readonly tools?: readonly ChatTool[]
  readonly generation?: GenerationOptions
  readonly limits?: Partial<ReplyLimits>
  readonly emptyReply?: string
  /** Left out, exchanges that no longer fit are dropped without a trace. */
  readonly summarize?: Summarize
  /** Turns to begin with, without a system prompt. */
  readonly turns?: readonly Turn[]
}

const defaultProfileTokens = 256
/** How much of the window stays after a summary, so that not every message makes a new one. */
const keptAfterSummary = 0.6

/** The system prompt with the profile and, where there is one, the summary of earlier exchanges. */
export function systemTurns(parts: readonly string[]): Turn[] {
  const content = parts.filter((part) => part !== '').join('\n\n')
  return content === '' ? [] : [{ role: 'system', content }]
}

/** The profile as a part of the system prompt, within a number of tokens of this generator. */
export function profilePart(entries: readonly ProfileEntry[], generator: TextGenerator, maxTokens?: number): string {
  return profilePrompt(entries, {
    maxTokens: maxTokens ?? defaultProfileTokens,
    countTokens: (text) => generator.countTokens([{ role: 'user', content: text }]),
  })
}

/**
 * One conversation. It keeps the history inside the context window: the oldest exchanges are dropped, or summarised, while
 * system prompt and profile always stay. One message at a time.
 */
export class Chat {
  readonly #options: ChatOptions
  #turns: Turn[]
  #summary = ''
  /** How many of the turns the summary stands for. */
  #summarized = 0
  #busy = false

  constructor(options: ChatOptions) {
    this.#options = options
    this.#turns = [...(options.turns ?? [])]
  }

  /** Everything that was said, what no longer fits into the context window included. */
  get turns(): readonly Turn[] {
    return this.#turns
  }

  /** What stands for the exchanges that were summarised; empty when there are none. */
  get summary(): string {
    return this.#summary
  }

  /** Forgets the conversation. The profile stays. */
  clear(): void {
    this.#turns = []
    this.#summary = ''
    this.#summarized = 0
  }

  /**
   * Sends a message and gives the reply as it comes. When the signal aborts, this throws its reason, and what was said until
   * then is remembered; when nothing was said, or something failed, the message is forgotten as if it had not been sent.
   */
  async *send(message: string, signal?: AbortSignal): AsyncGenerator<ChatEvent, void, void> {
    if (this.#busy)
      throw new InferError('MIRASTRAL_INFER_OPTION', 'Chat: one message at a time; wait for the reply to end')
    this.#busy = true
    const turns: Turn[] = [...this.#turns, { role: 'user', content: message }]
    let said = ''
    let done: readonly Turn[] | undefined
    try {
      await this.#summarizeIfFull(turns, signal)
      for await (const event of reply(this.#prompt(turns), this.#replyOptions(signal))) {
        if (event.type === 'text') said += event.text
        if (event.type === 'finish') done = event.turns
        yield event
      }
    } finally {
      if (done !== undefined) this.#turns = [...turns, ...done]
      else if (said !== '') this.#turns = [...turns, { role: 'assistant', content: said }]
      this.#busy = false
    }
  }

  #replyOptions(signal: AbortSignal | undefined): Parameters<typeof reply>[1] {
    const { generator, tools, generation, limits, emptyReply } = this.#options
    return {
      generator,
      ...(tools === undefined ? {} : { tools }),
      ...(generation === undefined ? {} : { generation }),
      ...(limits === undefined ? {} : { limits }),
      ...(emptyReply === undefined ? {} : { emptyReply }),
      ...(signal === undefined ? {} : { signal }),
    }
  }

  #prompt(turns: readonly Turn[]): Turn[] {
    const { systemPrompt = '', profile, profileTokens, generator } = this.#options
    const known = profile === undefined ? '' : profilePart(profile(), generator, profileTokens)
    const earlier = this.#summary === '' ? '' : `Earlier in this conversation:\n${this.#summary}`
    return [...systemTurns([systemPrompt, known, earlier]), ...turns.slice(this.#summarized)]
  }

  async #summarizeIfFull(turns: readonly Turn[], signal: AbortSignal | undefined): Promise<void> {
    const { summarize, generator, generation, tools = [] } = this.#options
    if (summarize === undefined) return
    const modelTools = tools.map(({ tool }) => tool)
    const countTokens = (some: readonly Turn[]): number => generator.countTokens(some, modelTools)
    const room = generator.contextLength - answerTokens(generator, generation)
    if (countTokens(this.#prompt(turns)) <= room) return
    const { dropped } = fitHistory(this.#prompt(turns), { maxTokens: Math.floor(room * keptAfterSummary), countTokens })
    this.#summary = await summarize(dropped, this.#summary, signal)
    this.#summarized += dropped.length
  }
}
