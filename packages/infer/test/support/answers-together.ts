import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import type { Backend } from '@mirastral/engine'
import { DecodeScheduler, DeviceDecoder } from '@mirastral/infer'
import type { DecoderAdapter, DecoderModel } from '@mirastral/infer'
import { adapterTensors, modulesOfModel, parseLoraConfig, planLora } from '@mirastral/lora'
import { architectureOf, checkpointWeights, openCheckpoint } from '@mirastral/models'
import { argmax } from '../../src/logits.js'

export interface GoldenAnswer {
  readonly prompt: readonly number[]
  readonly tokens: readonly number[]
}

const fixtures = fileURLToPath(new URL('../../../../fixtures/', import.meta.url))

/** By model: what Transformers and PEFT answer, greedily. */
export const goldenAnswers = () =>
  JSON.parse(readFileSync(`${fixtures}infer/generate.json`, 'utf8')) as Record<
    string,
    Record<'base' | 'adapter' | 'half', GoldenAnswer[]>
  >

export async function goldenModel(name: string): Promise<DecoderModel & { close: () => Promise<void> }> {
  const checkpoint = await openCheckpoint(`${fixtures}models/${name}`)
  const { config } = checkpoint
  const weights = checkpointWeights(checkpoint, { quantization: name.includes('nf4') ? 'nf4' : 'none' })
  return { architecture: architectureOf(config), config, weights, close: () => weights.close() }
}

/** The adapter of make_generate_goldens.py. */
export function goldenAdapter({ architecture, config }: DecoderModel, r = 3): DecoderAdapter {
  const all = ['q_proj', 'k_proj', 'v_proj', 'o_proj', 'gate_proj', 'up_proj', 'down_proj']
  const modules = modulesOfModel(architecture.parameters(config))
  const plan = planLora(parseLoraConfig({ r, loraAlpha: 2 * r, targetModules: all }), modules)
  const keys = [...adapterTensors(plan)].sort(([a], [b]) => (a < b ? -1 : 1))
  const tensors = keys.map(([key, shape], n) => {
    const data = Float32Array.from({ length: shape[0] * shape[1] }, (_, i) => Math.sin(1 + n + 0.37 * i) / 8)
    return [key, { shape, data }] as const
  })
  return { plan, tensors: new Map(tensors) }
}

/**
 * All golden prompts of a model at once, without an adapter, with it, and with half of it, in three places: what was
 * answered beside what should be.
 */
export async function answerTogether(
  backend: Backend,
  name: string,
): Promise<{ readonly got: number[][]; readonly expected: (readonly number[])[] }> {
  const model = await goldenModel(name)
  const decoder = await DeviceDecoder.create({ backend, model, contextLength: 64, sequences: 3 })
  try {
    const scheduler = new DecodeScheduler(decoder)
    const adapter = goldenAdapter(model)
    const { base, adapter: whole, half } = goldenAnswers()[name]
    const placed = [null, await decoder.adapters.place(adapter, 1), await decoder.adapters.place(adapter, 0.5)]
    const wishes = [base, whole, half].flatMap((list, n) => list.map((example) => ({ example, adapter: placed[n] })))
    const got = await Promise.all(
      wishes.map(async ({ example, adapter: own }) => {
        const decoding = await scheduler.begin(Int32Array.from(example.prompt), own)
        const tokens = [argmax(decoding.logits)]
        while (tokens.length < example.tokens.length) {
          tokens.push(argmax(await decoding.append(tokens[tokens.length - 1])))
        }
        decoding.close()
        return tokens
      }),
    )
    await scheduler.settle()
    return { got, expected: wishes.map(({ example }) => example.tokens) }
  } finally {
    await decoder.dispose()
    await model.close()
  }
}
