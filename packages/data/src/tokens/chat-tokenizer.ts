import { resolve } from 'node:path'
import type { Conversation, TokenizedExample, Turn } from '../conversation.js'
import { joinSegments } from './segments.js'
import type { Segment } from './segments.js'
import { encodeSegments } from './encode-segments.js'
import type { ChatTemplate, RenderOptions } from './chat-template.js'
import { chooseTemplate } from './choose-template.js'
import type { TemplateRules } from './choose-template.js'
import { SpecialTokens } from './special-tokens.js'
import { TextEncoder } from './text-encoder.js'
import { readTokenizerFiles, tokenizerError } from './tokenizer-files.js'
import type { TokenizerConfig, TokenizerFiles } from './tokenizer-files.js'
import { decodeWith } from './decode.js'

export interface ChatTokenizerOptions {
  /** A Jinja template instead of the folder's own. */
  chatTemplate?: string
  /**
   * `mistral-common` (default): where the folder's template is one of Mistral's instruct formats, conversations are written
   * by the rules that the models were trained with. `transformers`: always the Jinja template, byte for byte.
   */
  rules?: TemplateRules
}

/** What is needed to load the same tokenizer again, on another thread. */
export interface TokenizerOrigin {
  folder: string
  options: ChatTokenizerOptions
}

export interface MaskOptions {
  /** Train on all assistant turns (default) or on the last one only. */
  trainOn?: 'all' | 'last'
  /** Whether tool calls are trained on. Default true. */
  trainOnToolCalls?: boolean
}

/**
 * A model's tokenizer and chat template. Loaded from a local folder only; @huggingface/transformers is loaded with it.
 */
export class ChatTokenizer {
  /** SHA-256 over the tokenizer's files and how templates are chosen: equal hashes mean equal tokens. */
  readonly hash: string
  readonly template: ChatTemplate
  readonly origin: TokenizerOrigin
  readonly bosTokenId: number | undefined
  readonly eosTokenId: number
  /** Never the end-of-sequence token where the vocabulary offers anything else: the pad token, `<unk>`, or a spare one. */
  readonly padTokenId: number
  private readonly encoder: TextEncoder
  private readonly config: TokenizerConfig
  private readonly specials: SpecialTokens

  private constructor(
    origin: TokenizerOrigin,
    files: TokenizerFiles,
    encoder: TextEncoder,
    template: ChatTemplate,
    hash: string,
  ) {
    this.origin = origin
    this.config = files.config
    this.encoder = encoder
    this.specials = new SpecialTokens(encoder.specialTokens.map((token) => token.content))
    this.template = template
    this.hash = hash
    this.bosTokenId = this.idOf(files.config.bos_token)
    const eos = this.idOf(files.config.eos_token)
    if (eos === undefined) throw tokenizerError('tokenizer_config.json must name an eos_token of the vocabulary')
    this.eosTokenId = eos
    this.padTokenId = this.choosePad(eos)
  }

  /**
   * @throws DataError MIRASTRAL_DATA_TOKENIZER where the folder holds no usable tokenizer, or one without a chat template.
   */
  static async fromFolder(folder: string, options: ChatTokenizerOptions = {}): Promise<ChatTokenizer> {
    const files = await readTokenizerFiles(folder)
    const encoder = await TextEncoder.create(files)
    const { template, hash } = chooseTemplate(files, options)
    return new ChatTokenizer({ folder: resolve(folder), options }, files, encoder, template, hash)
  }

  /** What the user should know about this tokenizer. */
  get notes(): string[] {
    if (!this.template.name.startsWith('mistral') || !this.encoder.startsArePrefixed) return []
    return [
      'tokenizer.json puts a space after every special token (an early conversion of Mistral or Llama): its tokens are not ' +
        'the ones that the model was trained with; take a newer tokenizer.json of the model',
    ]
  }

  /** The highest token id plus one; a model's embedding may have more rows. */
  get vocabSize(): number {
    return this.encoder.vocabSize
  }

  /** The conversation as the model reads it, special tokens written out. */
  render(turns: readonly Turn[], options: RenderOptions = {}): string {
    return joinSegments(this.template.render(turns, options))
  }

  /** The tokens to generate an answer from: the same rendering as in training. */
  encodePrompt(turns: readonly Turn[], options: Pick<RenderOptions, 'tools'> = {}): Int32Array {
    const segments = this.template.render(turns, { ...options, addGenerationPrompt: true })
    return encodeSegments(segments, this.encoder, () => false).inputIds
  }

  /**
   * The whole conversation, with labels on what the assistant produced (its end-of-turn token included) and -100
   * elsewhere. Not truncated: see `fitToLength`.
   */
  encodeConversation(conversation: Conversation, options: MaskOptions = {}): TokenizedExample {
    return encodeSegments(this.segmentsOf(conversation), this.encoder, trainedSegments(conversation, options))
  }

  /** A plain text to continue, without a template: the beginning-of-sequence token and the text's tokens. */
  encodeText(text: string): Int32Array {
    const plain = { text, control: false, producedBy: -1, toolCall: false }
    return encodeSegments([...this.beginning(), plain], this.encoder, () => false).inputIds
  }

  /** The tokens of a text in which special tokens are written out, as `render` gives it. No token is added. */
  encodeRendered(written: string): Int32Array {
    const segments = this.specials.split(written, -1, false)
    return encodeSegments(segments, this.encoder, () => false).inputIds
  }

  /** The text of tokens. Special tokens are left out unless asked for. */
  decode(ids: ArrayLike<number>, options: { skipSpecialTokens?: boolean } = {}): string {
    return decodeWith(this.encoder, ids, options.skipSpecialTokens ?? true)
  }

  /** True for the tokens that only a chat template writes. */
  isSpecial(id: number): boolean {
    return this.encoder.specialIds.has(id)
  }

  /** How a token is spelled, for showing tokens one by one. */
  tokenText(id: number): string {
    return Buffer.from(this.encoder.bytes.of(id)).toString()
  }

  segmentsOf(conversation: Conversation): Segment[] {
    if (conversation.plain !== true)
      return this.template.render(conversation.turns, { tools: conversation.tools ?? [] })
    const content = conversation.turns.map((turn) => turn.content).join('')
    return [
      ...this.beginning(),
      { text: content, control: false, producedBy: 0, toolCall: false },
      { text: this.config.eos_token ?? '', control: true, producedBy: 0, toolCall: false },
    ]
  }

  private beginning(): Segment[] {
    const { bos_token: bos } = this.config
    return bos === undefined ? [] : [{ text: bos, control: true, producedBy: -1, toolCall: false }]
  }

  private idOf(token: string | undefined): number | undefined {
    return this.encoder.specialTokens.find(({ content }) => content === token)?.id
  }

  private choosePad(eos: number): number {
    const { pad_token, unk_token } = this.config
    const spare = this.encoder.specialTokens.find(({ content }) => /pad|reserved|unused|control_|extra/i.test(content))
    const candidates = [this.idOf(pad_token), this.idOf(unk_token), spare?.id, this.bosTokenId]
    return candidates.find((id) => id !== undefined && id !== eos) ?? eos
  }
}

function isTrained(turn: Turn): boolean {
  return turn.role === 'assistant' && turn.train !== false
}

function trainedSegments(conversation: Conversation, options: MaskOptions): (segment: Segment) => boolean {
  const { trainOn = 'all', trainOnToolCalls = true } = options
  const last = conversation.turns.findLastIndex((turn) => turn.role === 'assistant')
  return ({ producedBy, toolCall }) =>
    producedBy >= 0 &&
    (trainOn === 'all' || producedBy === last) &&
    (trainOnToolCalls || !toolCall) &&
    isTrained(conversation.turns[producedBy])
}
