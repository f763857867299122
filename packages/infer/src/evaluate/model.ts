import type { Turn } from '@mirastral/data'
import type { GenerationOptions, Notice, TextGenerator } from '../text-generator.js'

/** What is evaluated: anything that answers a conversation, whole or in pieces. */
export interface EvaluatedModel {
  reply(messages: readonly Turn[], signal?: AbortSignal): Promise<string> | AsyncIterable<string>
}

export interface GeneratorModelOptions {
  /** Default: greedy, at most 256 new tokens, so that two runs give the same replies. */
  readonly generation?: GenerationOptions
  /**
   * Whether the notices of a guarded generator are part of the reply, as the person sees them. Default false: what is
   * judged is what the model says by itself.
   */
  readonly includeNotices?: boolean
}

const defaultGeneration: GenerationOptions = { temperature: 0, maxNewTokens: 256 }

/** Lets a generator be evaluated. Tool calls end a reply. */
export function modelFromGenerator(generator: TextGenerator, options: GeneratorModelOptions = {}): EvaluatedModel {
  const generation = options.generation ?? defaultGeneration
  return {
    async *reply(messages, signal) {
      for await (const event of generator.generate({ ...generation, messages }, signal)) {
        if (event.type === 'notice' && options.includeNotices === true) yield noticeText(event.notice)
        if (event.type === 'token') {
          if (event.toolCalls === true) return
          yield event.text
        }
      }
    },
  }
}

function noticeText({ text, resources }: Notice): string {
  const lines = resources.map(({ name, phone, url }) =>
    [name, phone, url].filter((part) => part !== undefined).join(', '),
  )
  return `${[text, ...lines].join('\n')}\n\n`
}

/** What an answer's watch does with text: only the parts of `OutputWatch` that matter here. */
interface WatchStep {
  readonly ending?: { readonly notice?: { readonly category: string } }
}

/** A guard that can look at answers; a `ConversationGuard` is one. */
export interface OutputGuard {
  watchOutput(turns: readonly Turn[]): { push(text: string): WatchStep; finish(): WatchStep }
}

/** The category for which a guard ends an answer; `undefined` where it lets the whole answer pass. */
export function guardEnding(guard: OutputGuard, turns: readonly Turn[], reply: string): string | undefined {
  const watch = guard.watchOutput(turns)
  const ending = watch.push(reply).ending ?? watch.finish().ending
  return ending === undefined ? undefined : (ending.notice?.category ?? 'unnamed')
}
