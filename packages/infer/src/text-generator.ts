import type { Tool, Turn } from '@mirastral/data'

/**
 * How the next token is chosen, in the words of Hugging Face's `GenerationConfig` and of the OpenAI API. Left out means:
 * sample at temperature 1 from the whole distribution. Unlike in Hugging Face, `topK` is off unless given.
 */
export interface SamplingOptions {
  /** 0 is greedy decoding; otherwise the logits are divided by it. At least 0. */
  readonly temperature?: number
  /** Keep the k most likely tokens; 0 keeps all. */
  readonly topK?: number
  /** Keep the smallest set of tokens whose probability reaches it; in (0, 1]. */
  readonly topP?: number
  /** Drop tokens less likely than this fraction of the most likely one; in [0, 1]. */
  readonly minP?: number
  /** Above 1 discourages tokens of the prompt and of the answer; greater than 0. */
  readonly repetitionPenalty?: number
  /** Subtracted once from the logit of every token that the answer already contains; in [-2, 2]. */
  readonly presencePenalty?: number
  /** Subtracted from the logit of a token for each time the answer contains it; in [-2, 2]. */
  readonly frequencyPenalty?: number
  /** Same seed, same prompt, same model: same answer. Left out, every answer has its own. */
  readonly seed?: number
}

/** The names that a caller may force: any tool, none, or one. */
export type ToolChoice = 'auto' | 'none' | 'required' | { readonly name: string }

export interface GenerationOptions extends SamplingOptions {
  /** Generation ends before the first of these strings; it is not part of the answer. */
  readonly stop?: readonly string[]
  /** The greatest number of tokens of the answer. Left out: until the context window is full. */
  readonly maxNewTokens?: number
  /** Report the log probability of each token and of this many alternatives (0 to 20). Left out: none at all. */
  readonly logprobs?: number
  /** The answer is a JSON text that follows this JSON schema. */
  readonly jsonSchema?: Record<string, unknown>
}

/** A conversation to be continued by the assistant. */
export interface ChatRequest extends GenerationOptions {
  readonly messages: readonly Turn[]
  readonly tools?: readonly Tool[]
  /** Left out: 'auto' where there are tools. */
  readonly toolChoice?: ToolChoice
  /** False allows one tool call in an answer at most. Default true. */
  readonly parallelToolCalls?: boolean
}

/** A plain text to be continued, without a chat template. */
export interface TextRequest extends GenerationOptions {
  readonly prompt: string
}

export type GenerationRequest = ChatRequest | TextRequest

export interface TokenAlternative {
  readonly tokenId: number
  /** The token's own text; a token that is part of a character reads as U+FFFD. */
  readonly text: string
  readonly bytes: Uint8Array
  /** Natural logarithm of the probability that the model itself gave, before penalties, temperature and truncation. */
  readonly logprob: number
}

/** The chosen token and the most likely ones, most likely first. */
export interface TokenLogprobs extends TokenAlternative {
  readonly top: readonly TokenAlternative[]
}

export interface Usage {
  readonly promptTokens: number
  /** Tokens generated, those of a stop string and the end token included. */
  readonly completionTokens: number
}

/**
 * `stop`: the model ended, or a stop string was met. `length`: `maxNewTokens` or the context window was reached.
 * `content_filter`: a guard ended the answer.
 */
export type FinishReason = 'stop' | 'length' | 'content_filter'

/**
 * One token. `text` is what may be shown now: whole characters, never part of a stop string, often empty. `toolCalls` marks
 * the control token that begins tool calls; what follows it is their JSON.
 */
export interface TokenEvent {
  readonly type: 'token'
  readonly text: string
  readonly tokenId: number
  readonly logprobs?: TokenLogprobs
  readonly toolCalls?: true
}

/** The last event. */
export interface FinishEvent {
  readonly type: 'finish'
  readonly reason: FinishReason
  readonly usage: Usage
}

/** Where a person can turn to. */
export interface HelpResource {
  readonly name: string
  /** What it is and when it can be reached, in a few words. */
  readonly description?: string
  readonly phone?: string
  /** What to send to which number, such as `HOME to 741741`. */
  readonly text?: string
  readonly url?: string
}

/** Something that a person must see beside the answer, such as where to get help at once. */
export interface Notice {
  readonly category: string
  readonly severity: string
  readonly text: string
  readonly resources: readonly HelpResource[]
}

/** Given by a guard, before any token. */
export interface NoticeEvent {
  readonly type: 'notice'
  readonly notice: Notice
}

export type GenerationEvent = NoticeEvent | TokenEvent | FinishEvent

/**
 * What everything above generation is written against: the chat, the guard, the server. Several calls may be in flight
 * at once; the generator batches or queues them as it likes. Tool calls come as text in the model's own format, which
 * `ToolCallReader` reads.
 */
export interface TextGenerator {
  /** The name under which clients ask for it. */
  readonly modelId: string
  /** The greatest number of tokens of prompt and answer together. */
  readonly contextLength: number
  /**
   * How tool calls begin: with a control token, or, where the vocabulary has none, with the text `[TOOL_CALLS]`. Text that
   * merely looks like the control token begins nothing.
   */
  readonly toolCallMarker: 'control' | 'text'
  /** The number of tokens that a conversation takes as a prompt, the template and the tools included. */
  countTokens(messages: readonly Turn[], tools?: readonly Tool[]): number
  /**
   * Ends with exactly one `finish` event. When `signal` aborts, the iteration throws the signal's reason and the
   * resources are free; leaving the loop early frees them too. Throws `InferError` on options out of range, on a schema
   * that cannot be enforced and on a prompt that does not fit, before the first event.
   */
  generate(request: GenerationRequest, signal?: AbortSignal): AsyncIterable<GenerationEvent>
}
