import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { writeSafetensors } from '@mirastral/safetensors'
import type { BatchSource, SaveAdapter } from '@mirastral/trainer'
import type { BigramOptions, PairBatch } from './bigram-step.js'
import { BigramStep, uniform } from './bigram-step.js'

const vocabSize = 24
const hiddenSize = 8
const rank = 4

function uniforms(count: number, seed: number, range: number): Float32Array {
  return Float32Array.from({ length: count }, (_, i) => (2 * uniform(seed * 65_537 + i) - 1) * range)
}

/** A step with weights of its own making; equal options give equal bits. */
export function makeStep(options: Partial<BigramOptions> = {}): BigramStep {
  return new BigramStep({
    vocabSize,
    hiddenSize,
    rank,
    scale: 2,
    embedding: uniforms(vocabSize * hiddenSize, 1, 1),
    head: uniforms(vocabSize * hiddenSize, 2, 0.3),
    loraA: uniforms(rank * hiddenSize, 3, 0.4),
    loraB: new Float32Array(vocabSize * rank),
    dropout: 0.1,
    ...options,
  })
}

/** Rows of 4 to 11 tokens in which a token is mostly followed by the same other one, as micro-batches of one row. */
export function makePairs(rows: number, seed = 7): BatchSource<PairBatch> {
  const follower = (token: number): number => (token * 7 + 3) % vocabSize
  const batches = Array.from({ length: rows }, (_, row): PairBatch => {
    const random = (i: number): number => uniform((seed * 1009 + row) * 131 + i)
    const length = 4 + Math.floor(random(0) * 8)
    const inputIds = new Int32Array(length)
    const targets = new Int32Array(length).fill(-100)
    inputIds[0] = Math.floor(random(1) * vocabSize)
    for (let i = 0; i < length; i++) {
      const next = random(2 + 2 * i) < 0.8 ? follower(inputIds[i]) : Math.floor(random(3 + 2 * i) * vocabSize)
      if (i > 0) targets[i] = next
      if (i + 1 < length) inputIds[i + 1] = next
    }
    return { inputIds, targets }
  })
  return {
    length: rows,
    // A simple permutation per epoch; rows is prime to the stride for the sizes that the tests use.
    get: (epoch, index) => batches[(index * 5 + epoch * 3) % rows],
    inputTokens: (batch) => batch.inputIds.length,
  }
}

/** The same rows in their order. */
export function makeEvaluation(rows: number): BatchSource<PairBatch> {
  const source = makePairs(rows, 11)
  return { ...source, get: (_, index) => source.get(0, index) }
}

/** A PEFT directory for the step's adapter. */
export const saveAdapter: SaveAdapter = async (folder, weights) => {
  const config = {
    base_model_name_or_path: null,
    bias: 'none',
    fan_in_fan_out: false,
    inference_mode: true,
    init_lora_weights: true,
    lora_alpha: 8,
    lora_dropout: 0.0,
    peft_type: 'LORA',
    r: rank,
    target_modules: ['lm_head'],
    task_type: null,
  }
  await writeFile(join(folder, 'adapter_config.json'), JSON.stringify(config, null, 2))
  const entries = [...weights].map(([name, { shape, data }]) => ({ name, dtype: 'F32' as const, shape, data }))
  await writeSafetensors(join(folder, 'adapter_model.safetensors'), entries, { metadata: { format: 'pt' } })
}

export const identity = { model: 'bigram-24x8', adapter: 'lora r=4 alpha=8', data: 'pairs-7' }

/** A step whose evaluations, of `batches` batches each, give losses that rise from the `best`-th evaluation (from 1) on. */
export function makeWorseningStep(batches: number, best: number): BigramStep {
  const step = makeStep()
  const evaluate = step.evaluate.bind(step)
  let calls = 0
  step.evaluate = async (batch) => {
    const evaluation = Math.floor(calls++ / batches) + 1
    const result = await evaluate(batch)
    return { ...result, lossSum: result.tokens * (10 + Math.abs(evaluation - best)) }
  }
  return step
}
