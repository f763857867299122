import { ortBackend } from '@mirastral/engine'
import type { EngineTextGenerator, GenerationRequest } from '@mirastral/infer'
import { createTextGenerator } from '@mirastral/infer'
import { loadModel } from '@mirastral/models'
import type { LoadedModel } from '@mirastral/models'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { smallModel } from './support/small-model.js'
import type { SmallModel } from './support/small-model.js'

const topics = [
  'sleep',
  'work and the long way home',
  'a friend',
  'saying no',
  'my sister, who calls every day',
  'rest',
]
const asked = (n: number): GenerationRequest => ({
  messages: [{ role: 'user', content: `I would like to talk about ${topics[n % topics.length]}.` }],
  temperature: 0.9,
  topP: 0.9,
  seed: n,
  maxNewTokens: 6 + (n % 7),
})

async function textOf(generator: EngineTextGenerator, request: GenerationRequest, signal?: AbortSignal) {
  let text = ''
  for await (const event of generator.generate(request, signal)) if (event.type === 'token') text += event.text
  return text
}

describe('a generator with several places', () => {
  let small: SmallModel
  let model: LoadedModel
  let alone: EngineTextGenerator
  let together: EngineTextGenerator

  beforeAll(async () => {
    small = await smallModel()
    model = await loadModel(small.folder)
    const backend = ortBackend({ threads: 1, worker: false })
    alone = await createTextGenerator({ model, backend, concurrency: 1 })
    together = await createTextGenerator({ model, backend, concurrency: 4 })
  })
  afterAll(async () => {
    await alone.dispose()
    await together.dispose()
    await model.weights.close()
    await small.remove()
  })

  it('answers each request as one that answers them one by one', async () => {
    const requests = Array.from({ length: 12 }, (_, n) => asked(n))
    const expected: string[] = []
    for (const request of requests) expected.push(await textOf(alone, request))
    expect(await Promise.all(requests.map((request) => textOf(together, request)))).toEqual(expected)
    expect(together.load()).toEqual({ active: 0, waiting: 0 })
  })

  it('gives every place back, whoever leaves and however', async () => {
    const expected = await textOf(alone, asked(3))
    for (let round = 0; round < 3; round++) {
      const stay = Array.from({ length: 4 }, () => textOf(together, asked(3)))
      const aborted = Array.from({ length: 8 }, async (_, n) => {
        const controller = new AbortController()
        const reason = new Error('left')
        setTimeout(() => controller.abort(reason), n * 3)
        await textOf(together, { ...asked(n), maxNewTokens: 400 }, controller.signal).catch((error: unknown) => {
          if (error !== reason) throw error
        })
      })
      const broken = Array.from({ length: 4 }, async (_, n) => {
        for await (const event of together.generate(asked(n))) if (event.type === 'token') break
      })
      expect(await Promise.all(stay)).toEqual(Array.from({ length: 4 }, () => expected))
      await Promise.all([...aborted, ...broken])
      expect(together.load()).toEqual({ active: 0, waiting: 0 })
    }
  })

  it.each([0, 1.5, 65])('has no %s places', async (concurrency) => {
    await expect(createTextGenerator({ model, concurrency })).rejects.toThrow(`from 1 to 64, got ${concurrency}`)
  })

  it('decodes with rounded weights where it is asked to', async () => {
    const backend = ortBackend({ threads: 1, worker: false })
    const generator = await createTextGenerator({ model, backend, concurrency: 2, precision: 'int8' })
    const texts = await Promise.all([1, 2].map((n) => textOf(generator, asked(n))))
    await generator.dispose()
    expect(texts.every((text) => text.length > 0)).toBe(true)
  })
})
