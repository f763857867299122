import { fileURLToPath } from 'node:url'
import type { Batch, TokenizedExample } from '@mirastral/data'
import { ortBackend } from '@mirastral/engine'
import type { InitialAdapter, LoraOptions } from '@mirastral/lora'
import {
  denseParameters,
  initializeAdapter,
  modulesOfModel,
  parseLoraConfig,
  planLora,
  saveAdapter,
} from '@mirastral/lora'
import { architectureOf, checkpointWeights, openCheckpoint } from '@mirastral/models'
import type { SaveAdapter, TrainingOptionsInput, TrainStep, TrainStepRequest } from '@mirastral/trainer'
import { createTrainStep, parseTrainingOptions } from '@mirastral/trainer'
import { onTestFinished } from 'vitest'
import { uniform } from './bigram-step.js'

/** The tiny Llama of the adapter goldens: 2 layers, hidden 32, vocabulary 96. */
const folder = fileURLToPath(new URL('../../../../fixtures/lora/llama', import.meta.url))

export interface TinyRequest {
  readonly lora: LoraOptions
  readonly options: TrainingOptionsInput
  readonly quantization: 'nf4' | 'none'
  readonly adapterTensors?: InitialAdapter['tensors']
}

export async function tinyRequest(o: TinyRequest): Promise<TrainStepRequest> {
  const checkpoint = await openCheckpoint(folder)
  onTestFinished(() => checkpoint.reader.close())
  const weights = checkpointWeights(checkpoint, { quantization: o.quantization })
  const plan = planLora(parseLoraConfig(o.lora), modulesOfModel(checkpoint.parameters))
  const adapter = await initializeAdapter(plan, { seed: 1, readParameter: denseParameters(weights) })
  return {
    backend: ortBackend({ threads: 1, worker: false }),
    model: { architecture: architectureOf(checkpoint.config), config: checkpoint.config, weights },
    adapter: { ...adapter, tensors: o.adapterTensors ?? adapter.tensors },
    options: parseTrainingOptions(o.options),
    checkpointing: 'none',
  }
}

export const tinyStep = async (o: TinyRequest): Promise<TrainStep<Batch>> => createTrainStep(await tinyRequest(o))

/** PEFT files of a tiny model's adapter. */
export function tinySaveAdapter(lora: LoraOptions): SaveAdapter {
  return async (target, tensors) => {
    const checkpoint = await openCheckpoint(folder)
    await checkpoint.reader.close()
    const plan = planLora(parseLoraConfig(lora), modulesOfModel(checkpoint.parameters))
    await saveAdapter(target, { plan, tensors: new Map(tensors) })
  }
}

/** Rows of 5 to 14 tokens, the first two of which are not trained on. */
export function tinyRows(count: number): TokenizedExample[] {
  return Array.from({ length: count }, (_, row) => {
    const length = 5 + Math.floor(uniform(row * 7919) * 10)
    const inputIds = Int32Array.from({ length }, (_, i) => 3 + Math.floor(uniform(row * 7919 + i + 1) * 93))
    return { inputIds, labels: inputIds.map((id, i) => (i < 2 ? -100 : id)) }
  })
}
