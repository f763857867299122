import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { ChatTokenizer } from '@mirastral/data'
import type { Backend } from '@mirastral/engine'
import { ortBackend } from '@mirastral/engine'
import { loadAdapter, modulesOfModel } from '@mirastral/lora'
import type { DecoderAdapter } from './decode/adapter-bank.js'
import { AdapterSet } from './decode/adapter-set.js'
import type { DecoderModel } from './decode/decode-program.js'
import { DeviceDecoder } from './decode/device-decoder.js'
import type { DecodingPrecision } from './decode/device-decoder.js'
import { DecodeScheduler } from './decode/scheduler.js'
import { InferError } from './errors.js'
import { tokenBytesFromJson } from './token-bytes.js'
import { TokenGenerator } from './token-generator.js'
import type { Decoding, LanguageModel, TokenGeneratorOptions } from './token-generator.js'
import type { TextGenerator } from './text-generator.js'

export interface GeneratorRequest {
  /** As `loadModel` of @mirastral/models gives it; `folder` holds the tokenizer unless `tokenizerFolder` names another. */
  readonly model: DecoderModel & { readonly name: string; readonly folder: string }
  /** Loaded under the name `default`, and used. */
  readonly adapter?: DecoderAdapter | null
  /** Default: the CPU. */
  readonly backend?: Backend
  readonly tokenizerFolder?: string
  /** Tokens of prompt and answer together; default the model's, at most 4096. */
  readonly contextLength?: number
  readonly modelId?: string
  /** Answers that are written at once, each with a cache of its own, from 1 to 64; others wait. Default 8. */
  readonly concurrency?: number
  /** How the linear layers compute while an answer is written; default `exact`. */
  readonly precision?: DecodingPrecision
}

/** The adapters of a generator: loaded, switched and scaled while the base model stays where it is. */
export interface GeneratorAdapters {
  readonly names: readonly string[]
  /** What the generator itself answers with; null is the base model alone. */
  readonly active: string | null
  /**
   * Loads a PEFT folder, or takes an adapter, under a name; one that has the name already is replaced. `scale` multiplies
   * what the adapter adds, as PEFT's `scale_layer`. Answers that have begun go on as they are.
   * Throws `LoraError` when the adapter does not fit the model, `InferError` on a name or scale out of range.
   */
  load(name: string, source: string | DecoderAdapter, options?: { readonly scale?: number }): Promise<void>
  /** Changes the scale for answers that begin later. */
  setScale(name: string, scale: number): Promise<void>
  unload(name: string): Promise<void>
  /** Chooses what the generator answers with from now on; null is the base model alone. */
  use(name: string | null): void
  /** A generator that always uses this adapter, or the base model alone; its `modelId` is `<model>:<name>`, or `<model>`. */
  generator(name: string | null): TextGenerator
}

/** A generator that holds a device until it is disposed of; answers in flight must have ended before. */
export interface EngineTextGenerator extends TextGenerator {
  readonly adapters: GeneratorAdapters
  /** Answers that are being written, and those that wait for a place. */
  readonly load: () => { readonly active: number; readonly waiting: number }
  dispose(): Promise<void>
}

/** Where the context length is not given: enough for long conversations, and a cache that fits any machine. */
const DEFAULT_CONTEXT = 4096
const MOST_AT_ONCE = 64

/**
 * Loads a model with its tokenizer and adapter for generation. It answers everybody with whatever the model says: put
 * `guardGenerator(generator, SafetyGuard.load())` in front of people. Throws `InferError` when an option is out of range.
 */
export async function createTextGenerator(request: GeneratorRequest): Promise<EngineTextGenerator> {
  const { model, concurrency = 8 } = request
  if (!Number.isInteger(concurrency) || concurrency < 1 || concurrency > MOST_AT_ONCE) {
    const rule = `concurrency must be a whole number from 1 to ${MOST_AT_ONCE}`
    throw new InferError('MIRASTRAL_INFER_OPTION', `createTextGenerator: ${rule}, got ${concurrency}`)
  }
  const folder = request.tokenizerFolder ?? model.folder
  const tokenizer = await ChatTokenizer.fromFolder(folder)
  const tokenBytes = tokenBytesFromJson(JSON.parse(await readFile(join(folder, 'tokenizer.json'), 'utf8')))
  const contextLength = request.contextLength ?? Math.min(model.config.maxPositionEmbeddings, DEFAULT_CONTEXT)
  const decoder = await DeviceDecoder.create({
    backend: request.backend ?? ortBackend(),
    model,
    contextLength,
    sequences: concurrency,
    ...(request.precision === undefined ? {} : { precision: request.precision }),
  })
  const modelId = request.modelId ?? model.name
  const shape = { vocabSize: model.config.vocabSize, contextLength }
  const scheduler = new DecodeScheduler(decoder)
  const adapters = new AdapterSet(decoder.adapters, (adapter) => scheduler.forget(adapter))
  const generatorOf = (id: string, adapter: () => string | null): TokenGenerator => {
    const languageModel = scheduledModel({ modelId: id, ...shape }, { scheduler, adapters, adapter })
    return new TokenGenerator({ model: languageModel, tokenizer, tokenBytes } satisfies TokenGeneratorOptions)
  }
  try {
    await prepare(decoder, adapters, request.adapter ?? null)
  } catch (error) {
    await decoder.dispose()
    throw error
  }
  const generator = generatorOf(modelId, () => adapters.active)
  return Object.assign(generator, {
    adapters: publicAdapters(adapters, model, (name) =>
      generatorOf(name === null ? modelId : `${modelId}:${name}`, () => name),
    ),
    load: () => scheduler.load,
    dispose: async () => {
      await scheduler.settle()
      await adapters.settle()
      await decoder.dispose()
    },
  })
}

/** What takes its time, before the first answer. */
async function prepare(decoder: DeviceDecoder, adapters: AdapterSet, adapter: DecoderAdapter | null): Promise<void> {
  if (adapter) {
    await adapters.load('default', adapter)
    adapters.use('default')
  }
  const { placed, end } = adapters.begin(adapters.active)
  await decoder.prepare(placed)
  end()
}

/** One of the models that share a device: the base model, or the base model with an adapter. */
function scheduledModel(
  shape: { readonly modelId: string; readonly vocabSize: number; readonly contextLength: number },
  parts: {
    readonly scheduler: DecodeScheduler
    readonly adapters: AdapterSet
    readonly adapter: () => string | null
  },
): LanguageModel {
  const { scheduler, adapters, adapter } = parts
  return {
    ...shape,
    async begin(promptIds: Int32Array, signal?: AbortSignal): Promise<Decoding> {
      const use = adapters.begin(adapter())
      try {
        const decoding = await scheduler.begin(promptIds, use.placed, signal)
        return {
          logits: decoding.logits,
          append: (tokenId) => decoding.append(tokenId),
          close: () => {
            decoding.close()
            use.end()
          },
        }
      } catch (error) {
        use.end()
        throw error
      }
    },
  }
}

function publicAdapters(
  adapters: AdapterSet,
  model: DecoderModel,
  generator: (name: string | null) => TextGenerator,
): GeneratorAdapters {
  return {
    get names() {
      return adapters.names
    },
    get active() {
      return adapters.active
    },
    load: async (name, source, { scale } = {}) => {
      const adapter =
        typeof source === 'string'
          ? (await loadAdapter(source, modulesOfModel(model.architecture.parameters(model.config)))).adapter
          : source
      await adapters.load(name, adapter, scale)
    },
    setScale: (name, scale) => adapters.setScale(name, scale),
    unload: (name) => adapters.unload(name),
    use: (name) => adapters.use(name),
    generator: (name) => {
      if (name !== null) adapters.scaleOf(name)
      return generator(name)
    },
  }
}
