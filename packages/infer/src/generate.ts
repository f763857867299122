import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Tool, Turn } from '@mirastral/data'
import { ChatTokenizer } from '@mirastral/data'
import type { Backend } from '@mirastral/engine'
import { ortBackend } from '@mirastral/engine'
import { CachedDecoder } from './cached-decoder.js'
import type { DecoderAdapter, DecoderModel } from './cached-decoder.js'
import { jsonSchemaGrammar } from './constrain/json-schema.js'
import { compileGrammar } from './constrain/program.js'
import type { TokenMask, TokenTrie } from './constrain/token-mask.js'
import { buildTokenTrie, TokenConstraint } from './constrain/token-mask.js'
import { Detokenizer, tokenText } from './detokenize.js'
import { InferError } from './errors.js'
import { checkRequest } from './request-checks.js'
import type { TokenLogprob } from './sample.js'
import { Sampler, tokenLogprobs } from './sample.js'
import { StopMatcher } from './stop.js'
import type {
  ChatRequest,
  FinishReason,
  GenerationEvent,
  GenerationRequest,
  TextGenerator,
  TokenAlternative,
  TokenLogprobs,
} from './text-generator.js'
import type { TokenBytes } from './token-bytes.js'
import { tokenBytesFromJson } from './token-bytes.js'
import { TurnQueue } from './turn-queue.js'

export interface GeneratorRequest {
  /** As `loadModel` of @mirastral/models gives it; `folder` holds the tokenizer unless `tokenizerFolder` names another. */
  readonly model: DecoderModel & { readonly name: string; readonly folder: string }
  readonly adapter?: DecoderAdapter | null
  /** Default: the CPU. */
  readonly backend?: Backend
  readonly tokenizerFolder?: string
  /** Tokens of prompt and answer together; default the model's, at most 4096. */
  readonly contextLength?: number
  readonly modelId?: string
}

/** Where the context length is not given: enough for long conversations, and a cache that fits any machine. */
const DEFAULT_CONTEXT = 4096

/** The token that begins a tool call in Mistral's format. */
const TOOL_CALLS = '[TOOL_CALLS]'

/** Loads a model with its tokenizer and adapter for generation. */
export async function createTextGenerator(request: GeneratorRequest): Promise<EngineTextGenerator> {
  const { model } = request
  const folder = request.tokenizerFolder ?? model.folder
  const tokenizer = await ChatTokenizer.fromFolder(folder)
  const tokens = tokenBytesFromJson(JSON.parse(await readFile(join(folder, 'tokenizer.json'), 'utf8')))
  const contextLength = request.contextLength ?? Math.min(model.config.maxPositionEmbeddings, DEFAULT_CONTEXT)
  const decoder = await CachedDecoder.create({
    backend: request.backend ?? ortBackend(),
    model,
    adapter: request.adapter ?? null,
    contextLength,
  })
  return new EngineTextGenerator({ modelId: request.modelId ?? model.name, contextLength, tokenizer, tokens, decoder })
}

interface Parts {
  readonly modelId: string
  readonly contextLength: number
  readonly tokenizer: ChatTokenizer
  readonly tokens: TokenBytes
  readonly decoder: CachedDecoder
}

/** Generation on the engine: one answer at a time, others wait in order. */
export class EngineTextGenerator implements TextGenerator {
  readonly modelId: string
  readonly contextLength: number
  private readonly queue = new TurnQueue()
  private trie: TokenTrie | null = null

  constructor(private readonly parts: Parts) {
    this.modelId = parts.modelId
    this.contextLength = parts.contextLength
  }

  countTokens(messages: readonly Turn[], tools: readonly Tool[] = []): number {
    return this.parts.tokenizer.encodePrompt(messages, { tools }).length
  }

  async *generate(request: GenerationRequest, signal?: AbortSignal): AsyncGenerator<GenerationEvent, void> {
    checkRequest(request)
    const prompt = this.promptOf(request)
    const room = this.contextLength - prompt.length
    if (room < 1) {
      throw new InferError(
        'MIRASTRAL_INFER_CONTEXT_LENGTH',
        `generate: the prompt must leave room in the context of ${this.contextLength} tokens, got ${prompt.length} tokens; drop earlier turns`,
      )
    }
    const masks = this.masksOf(request)
    const leave = await this.queue.enter(signal)
    try {
      yield* this.answer(request, prompt, Math.min(room, request.maxNewTokens ?? room), masks, signal)
    } finally {
      leave()
    }
  }

  private promptOf(request: GenerationRequest): number[] {
    const { tokenizer } = this.parts
    if ('prompt' in request) return [...tokenizer.encodeText(request.prompt)]
    return [...tokenizer.encodePrompt(request.messages, { tools: toolsOf(request) })]
  }

  private async *answer(
    request: GenerationRequest,
    prompt: readonly number[],
    maxNewTokens: number,
    masks: Masks,
    signal: AbortSignal | undefined,
  ): AsyncGenerator<GenerationEvent, void> {
    const { decoder, tokenizer, tokens } = this.parts
    const sampler = new Sampler(request, prompt, Math.floor(Math.random() * 2 ** 32))
    const detokenizer = new Detokenizer(tokens, { continuation: 'prompt' in request })
    const stops = new StopMatcher(request.stop ?? [])
    const ids = [...prompt]
    let reason: FinishReason = 'length'
    let generated = 0
    while (generated < maxNewTokens) {
      const logits = await decoder.logits(ids, signal)
      const tokenId = sampler.next(logits, masks.next(generated))
      generated++
      masks.accept(tokenId)
      const logprobs = this.logprobsOf(request, logits, tokenId)
      if (tokenId === tokenizer.eosTokenId) {
        reason = 'stop'
        break
      }
      ids.push(tokenId)
      const { text, stopped } = stops.push(detokenizer.push(tokenId))
      yield { type: 'token', text, tokenId, ...logprobs }
      if (stopped) {
        reason = 'stop'
        break
      }
    }
    yield* rest(stops, detokenizer, ids[ids.length - 1])
    yield { type: 'finish', reason, usage: { promptTokens: prompt.length, completionTokens: generated } }
  }

  private logprobsOf(request: GenerationRequest, logits: Float32Array, tokenId: number): { logprobs?: TokenLogprobs } {
    if (request.logprobs === undefined) return {}
    const { tokens } = this.parts
    const described = ({ tokenId: id, logprob }: TokenLogprob): TokenAlternative => ({
      tokenId: id,
      text: tokenText(tokens, id),
      bytes: tokens.bytes[id] ?? new Uint8Array(),
      logprob,
    })
    const { chosen, top } = tokenLogprobs(logits, tokenId, request.logprobs)
    return { logprobs: { ...described(chosen), top: top.map(described) } }
  }

  /** Which tokens may follow: those of the JSON schema, and the beginning of a tool call where one is required. */
  private masksOf(request: GenerationRequest): Masks {
    const { tokens, tokenizer } = this.parts
    const schema = request.jsonSchema === undefined ? null : this.constraint(request.jsonSchema).begin()
    if ('prompt' in request || !requiresTool(request)) return new Masks(schema, null)
    const id = tokens.specialTokens.get(TOOL_CALLS)
    if (id === undefined) {
      throw new InferError(
        'MIRASTRAL_INFER_OPTION',
        `generate: toolChoice requires a tool, but the tokenizer has no ${TOOL_CALLS} token`,
      )
    }
    const first = new Uint32Array(Math.ceil(tokenizer.vocabSize / 32))
    first[id >> 5] |= 1 << (id & 31)
    return new Masks(schema, first)
  }

  private constraint(schema: Record<string, unknown>): TokenConstraint {
    const { tokens, tokenizer } = this.parts
    this.trie ??= buildTokenTrie(tokens, tokenizer.vocabSize)
    return new TokenConstraint(compileGrammar(jsonSchemaGrammar(schema)), this.trie, tokens, [tokenizer.eosTokenId])
  }

  /** Frees the device. Answers in flight must have ended. */
  async dispose(): Promise<void> {
    await this.parts.decoder.dispose()
  }
}

/** The masks of one answer. */
class Masks {
  constructor(
    private readonly schema: TokenMask | null,
    private readonly first: Uint32Array | null,
  ) {}

  next(position: number): Uint32Array | undefined {
    if (position === 0 && this.first) return this.first
    return this.schema?.allowed()
  }

  accept(tokenId: number): void {
    this.schema?.accept(tokenId)
  }
}

/** What was held back: an unfinished character, and text that might have begun a stop string. */
function* rest(stops: StopMatcher, detokenizer: Detokenizer, tokenId: number): Generator<GenerationEvent> {
  const { text, stopped } = stops.push(detokenizer.flush())
  const held = text + (stopped ? '' : stops.flush())
  if (held !== '') yield { type: 'token', text: held, tokenId }
}

function toolsOf({ tools = [], toolChoice = 'auto' }: ChatRequest): readonly Tool[] {
  if (toolChoice === 'none') return []
  return typeof toolChoice === 'object' ? tools.filter((tool) => tool.name === toolChoice.name) : tools
}

function requiresTool({ toolChoice = 'auto' }: ChatRequest): boolean {
  return toolChoice === 'required' || typeof toolChoice === 'object'
}
