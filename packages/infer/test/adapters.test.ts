import type { EngineTextGenerator, GenerationRequest, TextGenerator } from '@mirastral/infer'
import { createTextGenerator, InferError } from '@mirastral/infer'
import { loadAdapter, LoraError, modulesOfModel } from '@mirastral/lora'
import { loadModel } from '@mirastral/models'
import type { LoadedModel } from '@mirastral/models'
import { ortBackend } from '@mirastral/engine'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { smallModel } from './support/small-model.js'
import type { SmallModel } from './support/small-model.js'
import { startTestServer } from './support/test-server.js'

const messages = [{ role: 'user' as const, content: 'I keep waking up at four.' }]
const ask: GenerationRequest = { messages, temperature: 0, maxNewTokens: 12 }

async function tokensOf(generator: TextGenerator, request: GenerationRequest = ask): Promise<number[]> {
  const tokens: number[] = []
  for await (const event of generator.generate(request)) if (event.type === 'token') tokens.push(event.tokenId)
  return tokens
}

describe.each(['nf4', 'none'] as const)('the adapters of a generator (%s)', (quantization) => {
  let small: SmallModel
  let model: LoadedModel
  let generator: EngineTextGenerator
  const folders: Record<string, string> = {}

  const create = async (adapter?: string): Promise<EngineTextGenerator> => {
    const loaded = adapter && (await loadAdapter(adapter, modulesOfModel(model.architecture.parameters(model.config))))
    const backend = ortBackend({ threads: 1, worker: false })
    return createTextGenerator({ model, backend, modelId: 'small', adapter: loaded ? loaded.adapter : null })
  }
  /** What a generator answers that never had another adapter. */
  const fresh = async (adapter?: string): Promise<number[]> => {
    const alone = await create(adapter)
    const tokens = await tokensOf(alone)
    await alone.dispose()
    return tokens
  }

  beforeAll(async () => {
    small = await smallModel()
    model = await loadModel(small.folder, { quantization })
    folders.warm = await small.adapter('warm')
    folders.brief = await small.adapter('brief')
    // Another shape: other modules, another rank, weight-decomposed.
    folders.other = await small.adapter('other', { r: 6, targetModules: ['o_proj', 'down_proj'], useRslora: true })
    generator = await create()
  })
  afterAll(async () => {
    await generator.dispose()
    await model.weights.close()
    await small.remove()
  })

  it('are loaded, switched and unloaded as if each had been there alone', async () => {
    const base = await fresh()
    expect(await tokensOf(generator)).toEqual(base)
    for (const name of ['warm', 'brief', 'other']) {
      await generator.adapters.load(name, folders[name])
      generator.adapters.use(name)
      expect(generator.adapters.active).toBe(name)
      const expected = await fresh(folders[name])
      expect(expected).not.toEqual(base)
      expect(await tokensOf(generator)).toEqual(expected)
    }
    expect(generator.adapters.names).toEqual(['warm', 'brief', 'other'])
    generator.adapters.use(null)
    expect(await tokensOf(generator)).toEqual(base)
    generator.adapters.use('brief')
    await generator.adapters.unload('brief')
    expect(generator.adapters.active).toBe(null)
    expect(await tokensOf(generator)).toEqual(base)
  })

  it('answer side by side, each as it does alone', async () => {
    const expected = [await fresh(), await fresh(folders.warm), await fresh(folders.other)]
    const generators = [null, 'warm', 'other'].map((name) => generator.adapters.generator(name))
    expect(generators.map((g) => g.modelId)).toEqual(['small', 'small:warm', 'small:other'])
    const answers = await Promise.all([...generators, ...generators].map((g) => tokensOf(g)))
    expect(answers).toEqual([...expected, ...expected])
  })

  it('are scaled for the answers that begin later', async () => {
    const [base, warm] = [await fresh(), await fresh(folders.warm)]
    const scaled = generator.adapters.generator('warm')
    const running = scaled.generate(ask)[Symbol.asyncIterator]()
    await running.next()
    await generator.adapters.setScale('warm', 0)
    expect(await tokensOf(scaled)).toEqual(base)
    await generator.adapters.setScale('warm', 1)
    expect(await tokensOf(scaled)).toEqual(warm)
    await running.return?.()
  })

  it('refuse what they cannot be', async () => {
    const { adapters } = generator
    expect(() => adapters.use('gone')).toThrow(InferError)
    expect(() => adapters.generator('gone')).toThrow('there is no adapter "gone": warm, other')
    await expect(adapters.load('a:b', folders.warm)).rejects.toThrow('got "a:b"')
    await expect(adapters.load('a', folders.warm, { scale: NaN })).rejects.toThrow('a scale must be a number')
    await expect(adapters.load('a', small.folder)).rejects.toThrow(LoraError)
    expect(adapters.names).toEqual(['warm', 'other'])
  })

  it('are models of their own to a client, and come and go while the server runs', async () => {
    const expected = [await fresh(), await fresh(folders.warm)]
    const models = (): TextGenerator[] =>
      [null, ...generator.adapters.names].map((n) => generator.adapters.generator(n))
    const { client } = await startTestServer({ models })
    const listed = async (): Promise<string[]> => (await client.models.list()).data.map(({ id }) => id)
    expect(await listed()).toEqual(['small', 'small:warm', 'small:other'])
    const answer = async (id: string): Promise<string | null> => {
      const request = { model: id, messages, temperature: 0, max_completion_tokens: 12 }
      return (await client.chat.completions.create(request)).choices[0].message.content
    }
    const texts = await Promise.all(['small', 'small:warm'].map(answer))
    const own = await Promise.all(['small', 'small:warm'].map(answer))
    expect(own).toEqual(texts)
    expect(texts[0]).not.toBe(texts[1])
    expect(expected[0]).not.toEqual(expected[1])
    await generator.adapters.unload('other')
    expect(await listed()).toEqual(['small', 'small:warm'])
    await expect(answer('small:other')).rejects.toMatchObject({ status: 404, code: 'model_not_found' })
  })
})
