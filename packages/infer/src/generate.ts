import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { ChatTokenizer } from '@mirastral/data'
import type { Backend } from '@mirastral/engine'
import { ortBackend } from '@mirastral/engine'
import { CachedDecoder } from './cached-decoder.js'
import type { DecoderAdapter, DecoderModel } from './cached-decoder.js'
import { tokenBytesFromJson } from './token-bytes.js'
import { TokenGenerator } from './token-generator.js'
import type { Decoding, LanguageModel } from './token-generator.js'
import type { TextGenerator } from './text-generator.js'
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

/** A generator that holds a device until it is disposed of; answers in flight must have ended before. */
export interface EngineTextGenerator extends TextGenerator {
  dispose(): Promise<void>
}

/** Where the context length is not given: enough for long conversations, and a cache that fits any machine. */
const DEFAULT_CONTEXT = 4096

/** Loads a model with its tokenizer and adapter for generation. */
export async function createTextGenerator(request: GeneratorRequest): Promise<EngineTextGenerator> {
  const { model } = request
  const folder = request.tokenizerFolder ?? model.folder
  const tokenizer = await ChatTokenizer.fromFolder(folder)
  const tokenBytes = tokenBytesFromJson(JSON.parse(await readFile(join(folder, 'tokenizer.json'), 'utf8')))
  const contextLength = request.contextLength ?? Math.min(model.config.maxPositionEmbeddings, DEFAULT_CONTEXT)
  const decoder = await CachedDecoder.create({
    backend: request.backend ?? ortBackend(),
    model,
    adapter: request.adapter ?? null,
    contextLength,
  })
  const languageModel = new EngineModel(decoder, {
    modelId: request.modelId ?? model.name,
    vocabSize: model.config.vocabSize,
    contextLength,
  })
  const generator = new TokenGenerator({ model: languageModel, tokenizer, tokenBytes })
  return Object.assign(generator, { dispose: () => decoder.dispose() })
}

/** One answer at a time on the engine; others wait in order. */
class EngineModel implements LanguageModel {
  readonly modelId: string
  readonly vocabSize: number
  readonly contextLength: number
  readonly #decoder: CachedDecoder
  readonly #queue = new TurnQueue()

  constructor(
    decoder: CachedDecoder,
    shape: { readonly modelId: string; readonly vocabSize: number; readonly contextLength: number },
  ) {
    this.#decoder = decoder
    this.modelId = shape.modelId
    this.vocabSize = shape.vocabSize
    this.contextLength = shape.contextLength
  }

  async begin(promptIds: Int32Array, signal?: AbortSignal): Promise<Decoding> {
    const leave = await this.#queue.enter(signal)
    try {
      const ids = Array.from(promptIds)
      const logits = await this.#decoder.logits(ids, signal)
      const append = (tokenId: number): Promise<Float32Array> => {
        ids.push(tokenId)
        return this.#decoder.logits(ids, signal)
      }
      return { logits, append, close: leave }
    } catch (error) {
      leave()
      throw error
    }
  }
}
