import { randomInt } from 'node:crypto'
import type { Tool, Turn } from '@mirastral/data'
import { AnswerText } from './answer-text.js'
import { AnswerConstraints } from './constrain/answer-constraints.js'
import type { TokenMask } from './constrain/token-mask.js'
import { Detokenizer, tokenText } from './detokenize.js'
import { InferError } from './errors.js'
import { checkGenerationOptions } from './generation-options.js'
import { templateInput } from './prompt-turns.js'
import type { TemplateForm } from './prompt-turns.js'
import { Sampler, tokenLogprobs } from './sample.js'
import { StopMatcher } from './stop.js'
import type {
  ChatRequest,
  FinishReason,
  GenerationEvent,
  GenerationOptions,
  GenerationRequest,
  TextGenerator,
  TokenAlternative,
  TokenLogprobs,
} from './text-generator.js'
import type { TokenBytes } from './token-bytes.js'

/** One text that is being continued. */
export interface Decoding {
  /** The logits of the token after the prompt, f32[vocabSize]. The array may be overwritten by `append`. */
  readonly logits: Float32Array
  /** Adds a token; gives the logits of the next one, f32[vocabSize]. */
  append(tokenId: number): Promise<Float32Array>
  /** Frees what the text takes; called exactly once, also after an error. */
  close(): void
}

/** The part of generation that computes: token ids in, logits out. Several decodings may be open at once. */
export interface LanguageModel {
  readonly modelId: string
  readonly vocabSize: number
  readonly contextLength: number
  /** Runs the prompt. Throws the signal's reason when it aborts. */
  begin(promptIds: Int32Array, signal?: AbortSignal): Promise<Decoding>
}

/** What generation needs of a tokenizer; `ChatTokenizer` of @mirastral/data fits. */
export interface PromptTokenizer {
  readonly template: TemplateForm
  readonly eosTokenId: number
  encodePrompt(turns: readonly Turn[], options?: { tools?: readonly Tool[] }): Int32Array
  encodeText(text: string): Int32Array
}

export interface TokenGeneratorOptions {
  readonly model: LanguageModel
  readonly tokenizer: PromptTokenizer
  readonly tokenBytes: TokenBytes
  /** Tokens that end an answer; default: the tokenizer's end token. */
  readonly endTokenIds?: readonly number[]
}

const toolCallsToken = '[TOOL_CALLS]'

/** A `TextGenerator` over a model that gives logits: prompt, sampling, constraints, stop strings and text. */
export class TokenGenerator implements TextGenerator {
  readonly modelId: string
  readonly contextLength: number
  readonly toolCallMarker: 'control' | 'text'
  readonly #model: LanguageModel
  readonly #tokenizer: PromptTokenizer
  readonly #tokenBytes: TokenBytes
  readonly #endTokens: ReadonlySet<number>
  readonly #constraints: AnswerConstraints

  constructor(options: TokenGeneratorOptions) {
    this.#model = options.model
    this.#tokenizer = options.tokenizer
    this.#tokenBytes = options.tokenBytes
    this.#endTokens = new Set(options.endTokenIds ?? [options.tokenizer.eosTokenId])
    this.modelId = options.model.modelId
    this.contextLength = options.model.contextLength
    this.toolCallMarker = options.tokenBytes.specialTokens.has(toolCallsToken) ? 'control' : 'text'
    this.#constraints = new AnswerConstraints(options.tokenBytes, options.model.vocabSize, this.#endTokens)
  }

  countTokens(messages: readonly Turn[], tools: readonly Tool[] = []): number {
    return this.#promptIds({ messages, tools }).length
  }

  async *generate(request: GenerationRequest, signal?: AbortSignal): AsyncGenerator<GenerationEvent, void, void> {
    signal?.throwIfAborted()
    const options = checkGenerationOptions(request)
    const promptIds = this.#promptIds(request)
    const room = this.contextLength - promptIds.length
    if (room < 1) {
      throw new InferError(
        'MIRASTRAL_INFER_CONTEXT_LENGTH',
        `generate: the prompt must be shorter than the ${this.contextLength} tokens of the context window, ` +
          `got ${promptIds.length}; shorten the conversation`,
      )
    }
    const answer = new Answer({
      sampler: new Sampler(options, promptIds, randomInt(2 ** 32)),
      text: new AnswerText(
        new Detokenizer(this.#tokenBytes, { continuation: 'prompt' in request }),
        new StopMatcher(options.stop ?? []),
      ),
      mask: this.#mask(request, options),
      tokenBytes: this.#tokenBytes,
      endTokens: this.#endTokens,
      toolCallsId: this.#tokenBytes.specialTokens.get(toolCallsToken),
      forced: this.#forcedTokens(request),
      logprobs: options.logprobs,
    })
    const decoding = await this.#model.begin(promptIds, signal)
    try {
      yield* answer.run(decoding, { limit: Math.min(options.maxNewTokens ?? room, room), signal })
    } finally {
      decoding.close()
    }
    const usage = { promptTokens: promptIds.length, completionTokens: answer.tokens }
    yield { type: 'finish', reason: answer.reason, usage }
  }

  #promptIds(request: GenerationRequest): Int32Array {
    if ('prompt' in request) return this.#tokenizer.encodeText(request.prompt)
    const offered = request.toolChoice === 'none' ? [] : (request.tools ?? [])
    const { turns, tools } = templateInput({ turns: request.messages, tools: offered }, this.#tokenizer.template)
    return this.#tokenizer.encodePrompt(turns, { tools })
  }

  #mask(request: GenerationRequest, options: GenerationOptions): TokenMask | undefined {
    const mustCall = 'messages' in request && callIsRequired(request)
    if (mustCall) return this.#constraints.forToolCalls(request, this.toolCallMarker)
    return options.jsonSchema === undefined ? undefined : this.#constraints.forJsonSchema(options.jsonSchema)
  }

  /** A required tool call begins with its control token, whatever the model would rather say. */
  #forcedTokens(request: GenerationRequest): number[] {
    const id = this.#tokenBytes.specialTokens.get(toolCallsToken)
    return id !== undefined && 'messages' in request && callIsRequired(request) ? [id] : []
  }
}

function callIsRequired({ toolChoice, tools = [] }: ChatRequest): boolean {
  return tools.length > 0 && toolChoice !== undefined && toolChoice !== 'auto' && toolChoice !== 'none'
}

interface AnswerParts {
  readonly sampler: Sampler
  readonly text: AnswerText
  readonly mask: TokenMask | undefined
  readonly tokenBytes: TokenBytes
  readonly endTokens: ReadonlySet<number>
  readonly toolCallsId: number | undefined
  /** Tokens that the answer begins with. */
  readonly forced: readonly number[]
  readonly logprobs: number | undefined
}

/** The loop over the tokens of one answer. */
class Answer {
  tokens = 0
  reason: FinishReason = 'length'
  readonly #parts: AnswerParts

  constructor(parts: AnswerParts) {
    this.#parts = parts
  }

  async *run(
    decoding: Decoding,
    { limit, signal }: { limit: number; signal: AbortSignal | undefined },
  ): AsyncGenerator<GenerationEvent, void, void> {
    let logits = decoding.logits
    while (this.tokens < limit) {
      const { tokenId, end } = this.#choose(logits)
      this.tokens++
      if (end) {
        this.reason = 'stop'
        break
      }
      const { events, stopped } = this.#parts.text.push(this.#describe(tokenId, logits))
      yield* events
      if (stopped) {
        this.reason = 'stop'
        return
      }
      if (this.tokens < limit) logits = await decoding.append(tokenId)
      signal?.throwIfAborted()
    }
    yield* this.#parts.text.finish()
  }

  #choose(logits: Float32Array): { tokenId: number; end: boolean } {
    const { sampler, mask, forced, endTokens } = this.#parts
    const next = forced[this.tokens]
    if (next !== undefined) {
      sampler.accept(next)
      return { tokenId: next, end: false }
    }
    const tokenId = sampler.next(logits, mask?.allowed())
    mask?.accept(tokenId)
    return { tokenId, end: endTokens.has(tokenId) }
  }

  #describe(tokenId: number, logits: Float32Array): { tokenId: number; logprobs?: TokenLogprobs; toolCalls?: true } {
    const { logprobs, toolCallsId, tokenBytes } = this.#parts
    const marker = tokenId === toolCallsId ? { toolCalls: true as const } : {}
    if (logprobs === undefined) return { tokenId, ...marker }
    const { chosen, top } = tokenLogprobs(logits, tokenId, logprobs)
    const alternative = (token: { tokenId: number; logprob: number }): TokenAlternative => ({
      ...token,
      text: tokenText(tokenBytes, token.tokenId),
      bytes: tokenBytes.bytes[token.tokenId] ?? new Uint8Array(),
    })
    return { tokenId, ...marker, logprobs: { ...alternative(chosen), top: top.map(alternative) } }
  }
}
