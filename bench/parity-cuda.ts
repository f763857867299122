// Loss, logits and all adapter gradients of whole models on the GPU, against the CPU backend in float32 on the same NF4
// weights: in bfloat16, with the rows of the batch as merged micro-batches, and in float16 with a scaled loss.
// Usage: node --no-warnings --loader ts-node/esm parity-cuda.ts [--only NAME] [--cpu-only]
import { parseArgs } from 'node:util'
import { cudaBackend, Graph, i32, linear, ortBackend, reshape, type Backend } from '@mirastral/engine'
import { initializeAdapter, modulesOfModel, parseLoraConfig, planLora, withLora } from '@mirastral/lora'
import { bindConstants, forwardContext, outputEmbedding } from '@mirastral/models'
import { createTrainStep, parseTrainingOptions, statePrefix } from '@mirastral/trainer'
import { runWithOneLine } from './lib/one-line.js'
import { randomModel } from './lib/random-weights.js'
import { smollm2 } from './lib/smollm2.js'

/** A whole model in bfloat16: the row `bf16Model` of the engine's table of tolerances, of norms. */
const TOLERANCE = 5e-2

const mistral = {
  architectures: ['MistralForCausalLM'],
  model_type: 'mistral',
  rms_norm_eps: 1e-5,
  rope_theta: 10000,
  max_position_embeddings: 4096,
  sliding_window: null,
  initializer_range: 0.02,
  tie_word_embeddings: false,
}

const cases = [
  {
    name: 'SmolLM2-135M: 3 key-value heads of 64, vocabulary 49152',
    config: { ...smollm2, initializer_range: 0.02 },
    batch: 2,
    tokens: 237,
  },
  {
    name: 'heads of 96, sliding window of 64',
    config: {
      ...{ ...mistral, hidden_size: 768, intermediate_size: 2048, num_hidden_layers: 6, vocab_size: 49152 },
      ...{ num_attention_heads: 8, num_key_value_heads: 2, head_dim: 96, sliding_window: 64 },
    },
    batch: 1,
    tokens: 333,
  },
  {
    name: 'heads of 128, one key-value head',
    config: {
      ...{ ...mistral, hidden_size: 640, intermediate_size: 1728, num_hidden_layers: 6, vocab_size: 5003 },
      ...{ num_attention_heads: 5, num_key_value_heads: 1, head_dim: 128 },
    },
    batch: 3,
    tokens: 131,
  },
  {
    name: 'four layers of a 7B model',
    config: {
      ...{ ...mistral, hidden_size: 4096, intermediate_size: 14336, num_hidden_layers: 4, vocab_size: 32768 },
      ...{ num_attention_heads: 32, num_key_value_heads: 8 },
    },
    batch: 1,
    tokens: 129,
  },
] as const

type Case = (typeof cases)[number]
type Model = ReturnType<typeof randomModel>

const { values: args } = parseArgs({
  options: { only: { type: 'string', default: '' }, 'cpu-only': { type: 'boolean', default: false } },
})

/** Two packed conversations per row and a little padding. */
function batchOf({ batch, tokens, config }: Case) {
  const [size, split, end] = [batch * tokens, Math.floor(0.4 * tokens), tokens - 7]
  const at = (i: number): number => i % tokens
  const segment = (i: number): number => (at(i) >= end ? 0 : at(i) < split ? 1 : 2)
  const fill = (fn: (i: number) => number): Int32Array => Int32Array.from({ length: size }, (_, i) => fn(i))
  const inputIds = fill((i) => (Math.imul(i + 1, 2654435761) >>> 0) % config.vocab_size)
  const isTrained = (i: number): boolean => segment(i) > 0 && segment(i) === segment(i + 1) && at(i) < tokens - 1
  const targets = fill((i) => (isTrained(i) && i % 5 > 0 ? inputIds[i + 1] : -100))
  return {
    ...{ batchSize: batch, sequenceLength: tokens, inputIds, targets },
    positions: fill((i) => (segment(i) === 2 ? at(i) - split : at(i))),
    segmentIds: fill(segment),
    trainedTokens: targets.filter((t) => t >= 0).length,
  }
}

/** An adapter away from its neutral start, so that A has a gradient too. */
async function adapterFor(model: Model) {
  const targetModules = ['q_proj', 'k_proj', 'v_proj', 'o_proj', 'gate_proj']
  const modules = modulesOfModel(model.architecture.parameters(model.config))
  const plan = planLora(parseLoraConfig({ r: 16, loraAlpha: 32, loraDropout: 0, targetModules }), modules)
  const adapter = await initializeAdapter(plan, { seed: 5 })
  let x = 1
  for (const [key, { data }] of adapter.tensors) {
    if (!key.includes('lora_B')) continue
    for (let i = 0; i < data.length; i++) {
      x = (Math.imul(x, 1664525) + 1013904223) >>> 0
      data[i] = (x / 2 ** 32 - 0.5) * 0.02
    }
  }
  return adapter
}

type Tensors = Map<string, Float32Array>
type Mode = 'whole' | 'merged' | 'float16'

const LOSS_SCALE = 1024

/** The rows of a batch as batches of their own. */
function rowsOf(batch: ReturnType<typeof batchOf>) {
  const { batchSize, sequenceLength: n } = batch
  return Array.from({ length: batchSize }, (_, row) => {
    const part = (data: Int32Array): Int32Array => data.slice(row * n, (row + 1) * n)
    const targets = part(batch.targets)
    return {
      ...{ batchSize: 1, sequenceLength: n, inputIds: part(batch.inputIds), targets, positions: part(batch.positions) },
      segmentIds: part(batch.segmentIds),
      trainedTokens: targets.filter((t) => t >= 0).length,
    }
  })
}

/** Loss, gradients and the loss of an evaluation from the training step; logits from a program of their own. */
async function resultsOf(backend: Backend, model: Model, c: Case, mode: Mode): Promise<Tensors> {
  const adapter = await adapterFor(model)
  const batch = batchOf(c)
  const precision = mode === 'float16' ? 'float16' : 'float32'
  const options = parseTrainingOptions({ maxLength: c.tokens, precision })
  const step = await createTrainStep({ backend, model, adapter, options, checkpointing: 'none' })
  const results: Tensors = new Map()
  const scale = mode === 'float16' ? LOSS_SCALE : 1
  const at = { microStep: 1, lossScale: scale }
  try {
    const rows = rowsOf(batch)
    const merged =
      mode === 'merged'
        ? await step.merging?.accumulate(
            rows,
            rows.map(() => at),
          )
        : undefined
    const { lossSum } = merged ?? (await step.accumulate(batch, at))
    results.set('loss', Float32Array.of(lossSum / batch.trainedTokens))
    const evaluated = await step.evaluate(batch)
    results.set('evaluation loss', Float32Array.of(evaluated.lossSum / batch.trainedTokens))
    for (const [name, { data }] of await step.readState()) {
      if (name.startsWith(statePrefix.gradient))
        results.set(
          name,
          data.map((x) => x / scale),
        )
    }
  } finally {
    await step.dispose()
  }
  if (mode === 'whole') results.set('logits', await logitsOf(backend, model, c, adapter))
  return results
}

async function logitsOf(backend: Backend, model: Model, c: Case, adapter: Awaited<ReturnType<typeof adapterFor>>) {
  const session = await backend.createSession()
  try {
    const g = new Graph('logits')
    const ctx = withLora(forwardContext(g, model.weights.types), adapter.plan, { role: 'constant' })
    const ids = i32(c.batch, c.tokens)
    const inputs = {
      ids: g.input('ids', ids),
      positions: g.input('positions', ids),
      segments: g.input('segments', ids),
    }
    const hidden = model.architecture.forward(ctx, model.config, { ...inputs, maxPositions: c.tokens })
    const rows = reshape(hidden, [c.batch * c.tokens, model.config.hiddenSize])
    g.output('logits', linear(rows, ctx.parameter(outputEmbedding(model.config))))
    const program = g.build()
    await bindConstants(session, program, model)
    for (const [key, { shape, data }] of adapter.tensors)
      await session.bind(`adapter/${key}`, { type: { dtype: 'f32', shape: [...shape] }, data })
    const { inputIds, positions, segmentIds } = batchOf(c)
    const { logits } = await (await session.compile(program)).run({ ids: inputIds, positions, segments: segmentIds })
    if (!(logits instanceof Float32Array)) throw new Error('logits must be floats')
    return logits
  } finally {
    await session.dispose()
  }
}

/** |actual - expected| / |expected| as vectors. */
function relativeError(actual: Float32Array, expected: Float32Array): number {
  if (actual.length !== expected.length) return Infinity
  let [difference, norm] = [0, 0]
  expected.forEach((x, i) => {
    difference += (actual[i] - x) ** 2
    norm += x ** 2
  })
  return Math.sqrt(difference / norm)
}

/** All gradients as one vector. */
function joined(results: Tensors): Float32Array {
  const parts = [...results].filter(([name]) => name.startsWith(statePrefix.gradient)).map(([, data]) => data)
  const all = new Float32Array(parts.reduce((size, part) => size + part.length, 0))
  let at = 0
  for (const part of parts) {
    all.set(part, at)
    at += part.length
  }
  return all
}

const percent = (error: number | undefined): string => `${(100 * (error ?? NaN)).toFixed(2)}%`

/** Prints how far the device is from the CPU, and says whether it is near enough. */
function report(mode: Mode, actual: Tensors, expected: Tensors): boolean {
  const errors = [...actual].map(([name, values]) => {
    return { name, error: relativeError(values, expected.get(name) ?? new Float32Array()) }
  })
  const gradients = errors.filter(({ name }) => name.startsWith(statePrefix.gradient))
  const sorted = [...gradients].sort((a, b) => a.error - b.error)
  const [median, worst] = [sorted[sorted.length >> 1], sorted[sorted.length - 1]]
  const all = relativeError(joined(actual), joined(expected))
  const others = errors.filter((e) => !gradients.includes(e))
  const isRight = [...others, { error: all }].every(({ error }) => error <= TOLERANCE)
  const shown = [...others, { name: 'all gradients', error: all }].map(({ name, error }) => `${name} ${percent(error)}`)
  console.log(
    `  ${mode}: ${isRight ? 'equal' : 'NOT EQUAL'} within ${percent(TOLERANCE)}: ${shown.join(', ')}; single gradients: ` +
      `median ${percent(median.error)}, worst ${percent(worst.error)} (${worst.name.replace(/^.*layers/, 'layers')})`,
  )
  return isRight
}

async function compare(c: Case): Promise<boolean> {
  const model = randomModel(c.config)
  const start = performance.now()
  const expected = await resultsOf(ortBackend(), model, c, 'whole')
  const seconds = ((performance.now() - start) / 1000).toFixed(1)
  console.log(`${c.name}: loss ${expected.get('loss')?.[0].toFixed(5)} on the CPU in ${seconds} s`)
  if (args['cpu-only']) return true
  let isRight = true
  for (const mode of ['whole', ...(c.batch > 1 ? (['merged', 'float16'] as const) : [])] as const) {
    const backend = cudaBackend({ compute: mode === 'float16' ? 'f16' : 'bf16' })
    isRight = report(mode, await resultsOf(backend, model, c, mode), expected) && isRight
  }
  return isRight
}

await runWithOneLine(async () => {
  let failed = 0
  for (const c of cases.filter(({ name }) => name.includes(args.only))) if (!(await compare(c))) failed++
  return failed > 0 ? 1 : 0
})
