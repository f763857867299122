// The base model of the example: a small Mistral made on this machine, so that nothing needs to be downloaded. Random
// weights would answer with noise, so it first reads the sample conversations for a while: every weight is trained, with
// the same parts that fine-tune an adapter.
import { existsSync } from 'node:fs'
import { cp, mkdir, rename, rm } from 'node:fs/promises'
import { join } from 'node:path'
import type { TokenizedExample } from '@mirastral/data'
import { collate, prepareDataset, Sampler } from '@mirastral/data'
import { ortBackend } from '@mirastral/engine'
import type { LoraPlan } from '@mirastral/lora'
import { initializeAdapter, modulesOfModel, parameterOfKey, parseLoraConfig } from '@mirastral/lora'
import type { LoadedModel } from '@mirastral/models'
import { loadModel, writeRandomModel } from '@mirastral/models'
import { SafetensorsFile, writeSafetensors } from '@mirastral/safetensors'
import type { StopSource } from '@mirastral/trainer'
import { createTrainStep, parseTrainingOptions, statePrefix } from '@mirastral/trainer'

const CONFIG = {
  architectures: ['MistralForCausalLM'],
  model_type: 'mistral',
  vocab_size: 2048,
  hidden_size: 192,
  intermediate_size: 512,
  num_hidden_layers: 4,
  num_attention_heads: 6,
  num_key_value_heads: 2,
  max_position_embeddings: 2048,
  sliding_window: null,
  rms_norm_eps: 1e-5,
  rope_theta: 10000,
  tie_word_embeddings: false,
  initializer_range: 0.05,
  bos_token_id: 1,
  eos_token_id: 2,
  pad_token_id: 10,
  torch_dtype: 'float32',
}

/** How long it reads: enough for words and their order, far from knowing the conversations by heart. */
const READING = { steps: 100, batchSize: 4, sequenceLength: 128, learningRate: 2e-3 } as const

export interface BaseModelRequest {
  /** Where the model is kept; made on first use. */
  readonly folder: string
  readonly tokenizer: string
  readonly conversations: readonly string[]
  readonly threads?: number
  readonly log: (line: string) => void
  /** Looked at between steps. What is unfinished is made anew next time. */
  readonly stop: StopSource
}

/** The folder of the small base model. */
export async function smallBaseModel(request: BaseModelRequest): Promise<string> {
  const { folder, log } = request
  if (existsSync(join(folder, 'config.json'))) return folder
  log(`making a small base model in ${folder} (once; about half a minute)`)
  const unfinished = `${folder}.unfinished-${process.pid}`
  await rm(unfinished, { recursive: true, force: true })
  await mkdir(unfinished, { recursive: true })
  await writeRandomModel(unfinished, CONFIG, { seed: 7 })
  await cp(request.tokenizer, unfinished, { recursive: true })
  const model = await loadModel(unfinished, { quantization: 'none' })
  const weights = await read(model, request)
  await model.weights.close()
  await replaceWeights(join(unfinished, 'model.safetensors'), weights)
  await rename(unfinished, folder)
  return folder
}

/** Every module trained in full, and no low-rank adapter. */
function wholeModel(model: LoadedModel): LoraPlan {
  const modules = modulesOfModel(model.architecture.parameters(model.config))
  return { config: parseLoraConfig({}), layers: [], savedModules: modules, warnings: [] }
}

async function read(model: LoadedModel, request: BaseModelRequest): Promise<ReadonlyMap<string, Float32Array>> {
  const adapter = await initializeAdapter(wholeModel(model), {
    seed: 1,
    readParameter: async (name) => {
      const tensor = await model.weights.get(name)
      if (!('data' in tensor)) throw new Error(`internal: ${name} is not dense`)
      return tensor.data as Float32Array
    },
  })
  const step = await createTrainStep({
    backend: ortBackend(request.threads === undefined ? {} : { threads: request.threads }),
    model,
    adapter,
    options: parseTrainingOptions({ maxLength: READING.sequenceLength }),
    checkpointing: 'none',
  })
  const batches = await pieces(request)
  let loss = NaN
  for (let i = 0; i < READING.steps; i++) {
    request.stop.throwIfRequested()
    const { lossSum, tokens } = await step.accumulate(batches(i), { microStep: i })
    const decay = 1 - i / READING.steps
    await step.update({ learningRate: READING.learningRate * decay, step: i + 1, tokens })
    loss = lossSum / tokens
  }
  request.log(`the base model has read the sample conversations, loss ${loss.toFixed(2)}`)
  const state = await step.readState()
  await step.dispose()
  const weights = [...state].filter(([name]) => name.startsWith(statePrefix.adapter))
  return new Map(weights.map(([name, { data }]) => [parameterOfKey(name.slice(statePrefix.adapter.length)), data]))
}

/** The conversations as plain running text, every token a target, in shuffled batches. */
async function pieces(request: BaseModelRequest) {
  const data = await prepareDataset({
    inputs: request.conversations,
    tokenizer: request.tokenizer,
    options: { maxLength: READING.sequenceLength, truncation: 'split', evalFraction: 0.1 },
  })
  const rows: TokenizedExample[] = []
  for (let i = 0; i < data.train.length; i++) {
    const { inputIds } = data.train.get(i)
    rows.push({ inputIds, labels: inputIds })
  }
  data.close()
  const { batchSize, sequenceLength } = READING
  const sampler = new Sampler({ length: rows.length, batchSize, seed: 3, shuffle: true })
  return (_step: number) => {
    const { indices } = sampler.next()
    const full = [...indices, ...indices, ...indices, ...indices].slice(0, batchSize)
    return collate(
      full.map((index) => rows[index]),
      { padTokenId: CONFIG.pad_token_id, sequenceLength },
    )
  }
}

async function replaceWeights(path: string, weights: ReadonlyMap<string, Float32Array>): Promise<void> {
  const file = await SafetensorsFile.open(path)
  const entries = [...file.tensors].map(([name, { shape }]) => {
    const data = weights.get(name)
    if (!data) throw new Error(`internal: the trained model has no ${name}`)
    return { name, dtype: 'F32' as const, shape: [...shape], data }
  })
  await file.close()
  await writeSafetensors(path, entries, { metadata: { format: 'pt' } })
}
