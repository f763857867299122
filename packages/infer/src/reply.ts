import type { ToolCall, Turn } from '@mirastral/data'
import { newCallId } from './call-ids.js'
import { fitHistory } from './history.js'
import type { FinishReason, GenerationOptions, Notice, TextGenerator, ToolChoice, Usage } from './text-generator.js'
import { ToolCallReader } from './tool-calls.js'
import type { ToolCallParse } from './tool-calls.js'
import { toolsByName } from './tools.js'
import type { ChatTool, ToolOutcome } from './tools.js'

/** A tool call that is carried out. */
export type NamedCall = ToolCall & { readonly id: string }

export type ChatEvent =
  | { readonly type: 'notice'; readonly notice: Notice }
  /** The next piece of the reply. */
  | { readonly type: 'text'; readonly text: string }
  | { readonly type: 'toolCall'; readonly call: NamedCall }
  | { readonly type: 'toolResult'; readonly id: string; readonly name: string; readonly outcome: ToolOutcome }
  /** The last event. `turns` are those that the reply adds to the conversation. */
  | { readonly type: 'finish'; readonly reason: FinishReason; readonly usage: Usage; readonly turns: readonly Turn[] }

export interface ReplyLimits {
  /** How often the model may call tools before it has to answer. Default 4. */
  readonly toolRounds: number
  /** How many calls of one round are carried out; the model is told about the others. Default 8. */
  readonly callsPerRound: number
}

export interface ReplyOptions {
  readonly generator: TextGenerator
  readonly tools?: readonly ChatTool[]
  readonly generation?: GenerationOptions
  readonly limits?: Partial<ReplyLimits>
  /** Said when the model, asked twice, says nothing to the person. */
  readonly emptyReply?: string
  readonly signal?: AbortSignal
}

const defaultLimits: ReplyLimits = { toolRounds: 4, callsPerRound: 8 }
const defaultEmptyReply = 'I am here, but I did not find the right words just now. Could you say that in another way?'

/** An answer of a conversation is not longer unless the options say so. */
const defaultAnswerTokens = 512

/** The tokens that are kept free for an answer, and that it takes at most. */
export function answerTokens(generator: TextGenerator, generation: GenerationOptions = {}): number {
  return generation.maxNewTokens ?? Math.max(1, Math.min(defaultAnswerTokens, generator.contextLength >> 2))
}

/**
 * The reply to the newest message of a conversation: text as it comes, tool calls and their results, and at the end the
 * turns to remember. A reply always says something to the person: after the last allowed round of tools, and when the model
 * stays silent, it is asked again without tools. Throws `InferError` when the conversation does not fit, and the signal's
 * reason when it aborts.
 */
export async function* reply(turns: readonly Turn[], options: ReplyOptions): AsyncGenerator<ChatEvent, void, void> {
  const run = new ReplyRun(options)
  const limits = { ...defaultLimits, ...options.limits }
  let mayCall = run.hasTools
  for (let round = 1; ; round++) {
    const step = yield* run.generate(turns, mayCall ? 'auto' : 'none')
    const silent = step.said.trim() === ''
    if (mayCall && step.parse !== undefined) {
      yield* run.carryOut(step.said, step.parse, limits.callsPerRound)
      mayCall = round < limits.toolRounds
    } else if (mayCall && silent) {
      mayCall = false
    } else {
      yield* run.finish(silent ? (options.emptyReply ?? defaultEmptyReply) : step.said, step.reason, silent)
      return
    }
  }
}

interface Step {
  /** What this round said to the person. */
  readonly said: string
  readonly parse: ToolCallParse | undefined
  readonly reason: FinishReason
}

class ReplyRun {
  readonly #options: ReplyOptions
  readonly #tools: ReadonlyMap<string, ChatTool>
  readonly #added: Turn[] = []
  readonly #notices = new Set<string>()
  #hasSpoken = false
  #usage: Usage = { promptTokens: 0, completionTokens: 0 }

  constructor(options: ReplyOptions) {
    this.#options = options
    this.#tools = toolsByName(options.tools ?? [])
  }

  get hasTools(): boolean {
    return this.#tools.size > 0
  }

  /** One answer of the model: gives what it says, returns what else it wants. */
  async *generate(turns: readonly Turn[], toolChoice: ToolChoice): AsyncGenerator<ChatEvent, Step, void> {
    const { generator, generation = {}, signal } = this.#options
    const tools = toolChoice === 'none' ? [] : [...this.#tools.values()].map(({ tool }) => tool)
    const maxNewTokens = answerTokens(generator, generation)
    const { turns: messages } = fitHistory([...turns, ...this.#added], {
      maxTokens: Math.max(1, generator.contextLength - maxNewTokens),
      countTokens: (some) => generator.countTokens(some, tools),
    })
    const reader = new ToolCallReader(generator.toolCallMarker)
    let said = ''
    let reason: FinishReason = 'stop'
    const request = { ...generation, messages, maxNewTokens, ...(tools.length > 0 ? { tools, toolChoice } : {}) }
    for await (const event of generator.generate(request, signal)) {
      if (event.type === 'notice') yield* this.#notice(event.notice)
      else if (event.type === 'finish') {
        reason = event.reason
        this.#usage = {
          promptTokens: this.#usage.promptTokens + event.usage.promptTokens,
          completionTokens: this.#usage.completionTokens + event.usage.completionTokens,
        }
      } else {
        const text = reader.push(event)
        yield* this.#say(text, said)
        said += text
      }
    }
    const { text, parse } = reader.finish()
    yield* this.#say(text, said)
    return { said: said + text, parse, reason }
  }

  /** A text of its own paragraph where an earlier round has already said something. */
  *#say(text: string, saidInThisRound: string): Generator<ChatEvent, void, void> {
    if (text === '') return
    const isNewParagraph = saidInThisRound === '' && this.#hasSpoken
    const piece = isNewParagraph ? `\n\n${text.trimStart()}` : text
    this.#hasSpoken = true
    yield { type: 'text', text: piece }
  }

  /** The guard looks at every round; the person sees each of its notices once. */
  *#notice(notice: Notice): Generator<ChatEvent, void, void> {
    const key = `${notice.category} ${notice.severity}`
    if (this.#notices.has(key)) return
    this.#notices.add(key)
    yield { type: 'notice', notice }
  }

  /** Runs the calls side by side; results are given as they come and remembered in the order of the calls. */
  async *carryOut(said: string, parse: ToolCallParse, callsPerRound: number): AsyncGenerator<ChatEvent, void, void> {
    const calls: NamedCall[] = parse.ok
      ? parse.calls.map((call) => ({ ...call, id: newCallId() }))
      : [{ id: newCallId(), name: 'unreadable_call', arguments: {} }]
    const results = new Map<string, ToolOutcome>()
    for (const call of calls) yield { type: 'toolCall', call }
    const pending = new Map(
      calls.map((call, i) => {
        const outcome = parse.ok ? this.#run(call, i, callsPerRound) : Promise.resolve(toolError(parse.problem))
        return [call.id, outcome.then((result) => ({ call, result }))] as const
      }),
    )
    while (pending.size > 0) {
      const { call, result } = await Promise.race(pending.values())
      pending.delete(call.id)
      results.set(call.id, result)
      yield { type: 'toolResult', id: call.id, name: call.name, outcome: result }
    }
    this.#added.push({ role: 'assistant', content: said, toolCalls: calls.map((call) => ({ ...call })) })
    for (const { id, name } of calls) {
      const content = results.get(id)?.content ?? ''
      this.#added.push({ role: 'tool', content, toolCallId: id, name })
    }
  }

  #run(call: NamedCall, index: number, callsPerRound: number): Promise<ToolOutcome> {
    if (index >= callsPerRound) {
      return Promise.resolve(toolError(`not carried out: at most ${callsPerRound} calls at once`))
    }
    const tool = this.#tools.get(call.name)
    if (tool === undefined) {
      const known = [...this.#tools.keys()].join(', ')
      return Promise.resolve(toolError(`there is no such tool; the tools are: ${known}`))
    }
    return tool.call(call.arguments, this.#options.signal)
  }

  *finish(said: string, reason: FinishReason, isReplacement: boolean): Generator<ChatEvent, void, void> {
    if (isReplacement) yield* this.#say(said, '')
    this.#added.push({ role: 'assistant', content: said })
    yield { type: 'finish', reason, usage: this.#usage, turns: this.#added }
  }
}

const toolError = (error: string): ToolOutcome => ({ ok: false, content: JSON.stringify({ error }) })
