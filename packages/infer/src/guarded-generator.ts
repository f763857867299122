import type { Turn } from '@mirastral/data'
import type { ConversationGuard, InputDecision, OutputStep, OutputWatch } from './conversation-guard.js'
import type { GenerationEvent, GenerationRequest, TextGenerator, TokenEvent } from './text-generator.js'
import { parseToolCalls } from './tool-calls.js'

/** The id of a token that no model wrote: the text of a guard. */
export const guardTokenId = -1

/**
 * The same generator behind a guard. The guard may answer in the model's place, add instructions, and end an answer before
 * anything unsafe of it is shown; log probabilities are held back with the text that they belong to. Tool calls reach the
 * caller only when they can be read as such, so nothing can pass the guard by calling itself one.
 */
export function guardGenerator(generator: TextGenerator, guard: ConversationGuard): TextGenerator {
  return {
    modelId: generator.modelId,
    contextLength: generator.contextLength,
    toolCallMarker: generator.toolCallMarker,
    countTokens: (messages, tools) => generator.countTokens(messages, tools),
    async *generate(request, signal) {
      const turns = turnsOf(request)
      const promptTokens = (): number => generator.countTokens(turns)
      const decision = await guard.checkInput(turns, signal)
      signal?.throwIfAborted()
      if (decision.notice !== undefined) yield { type: 'notice', notice: decision.notice }
      if (decision.action === 'respond') {
        yield { type: 'token', text: decision.text, tokenId: guardTokenId }
        yield { type: 'finish', reason: 'stop', usage: { promptTokens: promptTokens(), completionTokens: 0 } }
        return
      }
      const watched = new WatchedAnswer(guard.watchOutput(turns), promptTokens)
      yield* watched.run(generator.generate(instructed(request, decision), signal))
    },
  }
}

const turnsOf = (request: GenerationRequest): readonly Turn[] =>
  'prompt' in request ? [{ role: 'user', content: request.prompt }] : request.messages

/** The instructions join the system prompt; a plain text has none, so it is continued as it is. */
function instructed(
  request: GenerationRequest,
  { instructions }: InputDecision & { action: 'answer' },
): GenerationRequest {
  if (instructions === undefined || 'prompt' in request) return request
  return { ...request, messages: [{ role: 'system', content: instructions }, ...request.messages] }
}

class WatchedAnswer {
  readonly #watch: OutputWatch
  readonly #promptTokens: () => number
  /** Tokens whose text is not, or not wholly, released. */
  #held: { readonly event: TokenEvent; readonly end: number }[] = []
  #pushed = 0
  #released = 0
  #tokens = 0

  constructor(watch: OutputWatch, promptTokens: () => number) {
    this.#watch = watch
    this.#promptTokens = promptTokens
  }

  async *run(events: AsyncIterable<GenerationEvent>): AsyncGenerator<GenerationEvent, void, void> {
    const calls: TokenEvent[] = []
    for await (const event of events) {
      if (event.type === 'notice') {
        yield event
      } else if (event.type === 'finish') {
        if (yield* this.#close(calls)) return
        yield event
      } else {
        this.#tokens++
        if (calls.length > 0 || event.toolCalls === true) calls.push(event)
        else if (yield* this.#show(event)) return
      }
    }
  }

  /** Tool calls pass as they are; what only pretends to be one is watched like any other text. */
  *#close(calls: readonly TokenEvent[]): Generator<GenerationEvent, boolean, void> {
    const parse = parseToolCalls(calls.map((call) => call.text).join(''))
    if (parse.ok) {
      if (parse.rest !== '' && (yield* this.#step(this.#watch.push(parse.rest), { final: false }))) return true
      if (yield* this.#step(this.#watch.finish(), { final: true })) return true
      yield* calls
      return false
    }
    for (const { toolCalls: _, ...event } of calls) if (yield* this.#show(event)) return true
    return yield* this.#step(this.#watch.finish(), { final: true })
  }

  *#show(event: TokenEvent): Generator<GenerationEvent, boolean, void> {
    this.#pushed += event.text.length
    this.#held.push({ event, end: this.#pushed })
    return yield* this.#step(this.#watch.push(event.text), { final: false })
  }

  /** Releases what may be shown. True when the guard has ended the answer. */
  *#step(step: OutputStep, { final }: { final: boolean }): Generator<GenerationEvent, boolean, void> {
    this.#released += step.text.length
    const isLast = final || step.ending !== undefined
    for (let first = this.#held[0]; first !== undefined && first.end <= this.#released; first = this.#held[0]) {
      this.#held.shift()
      yield first.event
    }
    const [cut] = this.#held
    if (isLast && cut !== undefined) {
      const shown = cut.event.text.length - (cut.end - this.#released)
      if (shown > 0) yield { type: 'token', text: cut.event.text.slice(0, shown), tokenId: cut.event.tokenId }
    }
    if (step.ending === undefined) return false
    yield* this.#end(step.ending)
    return true
  }

  *#end(ending: NonNullable<OutputStep['ending']>): Generator<GenerationEvent, void, void> {
    if (ending.notice !== undefined) yield { type: 'notice', notice: ending.notice }
    if (ending.text !== '') yield { type: 'token', text: ending.text, tokenId: guardTokenId }
    const usage = { promptTokens: this.#promptTokens(), completionTokens: this.#tokens }
    yield { type: 'finish', reason: 'content_filter', usage }
  }
}
