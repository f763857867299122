import { basename } from 'node:path'
import { InferError } from '../errors.js'
import type { TextGenerator } from '../text-generator.js'
import { loadDefaultExport } from './load-module.js'
import type { ServeCommandOptions } from './serve-options.js'

export interface LoadedGenerator {
  /** What the page talks to, and clients that ask for the model by its name alone. */
  readonly generator: TextGenerator
  /** The same model with each of its further adapters, as `<model>:<adapter>`. */
  readonly variants: readonly TextGenerator[]
  /** Frees the device and closes the files. */
  readonly dispose: () => Promise<void>
}

/** Answers that are decoded in one run; further ones that the server lets in wait for a place. */
const DECODED_AT_ONCE = 8
const MOST_AT_ONCE = 16

/** The generator that the command line asks for. `note` is told what the person should know. */
export async function loadGenerator(
  options: ServeCommandOptions,
  note: (line: string) => void,
): Promise<LoadedGenerator> {
  if (options.generator !== undefined) return fromModule(options.generator, options['model-id'])
  if (options.model === undefined) throw new Error('internal: loadGenerator: neither a model nor a generator')
  return fromModel(options.model, options, note)
}

async function fromModel(
  source: string,
  options: ServeCommandOptions,
  note: (line: string) => void,
): Promise<LoadedGenerator> {
  const [{ loadModel }, { loadAdapter, modulesOfModel }, { cudaBackend, ortBackend }, { createTextGenerator }] =
    await Promise.all([
      import('@mirastral/models'),
      import('@mirastral/lora'),
      import('@mirastral/engine'),
      import('../generate.js'),
    ])
  const model = await loadModel(source, { quantization: options.quantization })
  try {
    const modules = modulesOfModel(model.architecture.parameters(model.config))
    const loaded = options.adapter === undefined ? undefined : await loadAdapter(options.adapter, modules)
    for (const warning of [...model.warnings, ...(loaded?.warnings ?? [])]) note(`note: ${warning}`)
    const generator = await createTextGenerator({
      model,
      adapter: loaded?.adapter ?? null,
      backend:
        options.device === 'cuda' ? cudaBackend() : ortBackend(options.threads ? { threads: options.threads } : {}),
      // A path of this machine is nobody's business.
      modelId: options['model-id'] ?? (model.commit === null ? basename(model.folder) : model.name),
      ...(options.context === undefined ? {} : { contextLength: options.context }),
      precision: options.precision,
      concurrency: Math.min(options.concurrency ?? DECODED_AT_ONCE, MOST_AT_ONCE),
    })
    const dispose = async (): Promise<void> => {
      await generator.dispose()
      await model.weights.close()
    }
    for (const [name, folder] of Object.entries(options.adapters)) await generator.adapters.load(name, folder)
    const variants = Object.keys(options.adapters).map((name) => generator.adapters.generator(name))
    return { generator, variants, dispose }
  } catch (error) {
    await model.weights.close()
    throw error
  }
}

async function fromModule(path: string, modelId: string | undefined): Promise<LoadedGenerator> {
  const made = await loadDefaultExport('generator', path)
  if (!isGenerator(made)) {
    const message = `mirastral serve: --generator: ${path} has no default export that is a TextGenerator or makes one`
    throw new InferError('MIRASTRAL_INFER_OPTION', message)
  }
  const generator = modelId === undefined ? made : renamed(made, modelId)
  return { generator, variants: [], dispose: () => Promise.resolve() }
}

function isGenerator(value: unknown): value is TextGenerator {
  const candidate = value as Partial<TextGenerator> | null | undefined
  return (
    typeof candidate?.modelId === 'string' &&
    typeof candidate.contextLength === 'number' &&
    typeof candidate.generate === 'function' &&
    typeof candidate.countTokens === 'function'
  )
}

const renamed = (generator: TextGenerator, modelId: string): TextGenerator => ({
  modelId,
  contextLength: generator.contextLength,
  toolCallMarker: generator.toolCallMarker,
  countTokens: (messages, tools) => generator.countTokens(messages, tools),
  generate: (request, signal) => generator.generate(request, signal),
})
