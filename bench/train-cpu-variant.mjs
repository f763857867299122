// @ts-check
// One variant of bench/train-cpu in a process of its own, so that its peak memory is its own (plain JavaScript, so that no
// compiler is counted). Prints one line of JSON.
import { parseArgs } from 'node:util'
import { ortBackend } from '@mirastral/engine'
import { initializeAdapter, modulesOfModel, parseLoraConfig, planLora } from '@mirastral/lora'
import { loadModel } from '@mirastral/models'
import { createTrainStep, parseTrainingOptions } from '@mirastral/trainer'
import { matmulRate, median } from './lib/matmul-rate.mjs'

const { values } = parseArgs({
  options: {
    model: { type: 'string', default: '' },
    batch: { type: 'string' },
    length: { type: 'string', default: '256' },
    weights: { type: 'string' },
    checkpointing: { type: 'string' },
    threads: { type: 'string' },
    steps: { type: 'string' },
  },
})
const [batchSize, sequenceLength, threads, steps] = [values.batch, values.length, values.threads, values.steps].map(
  Number,
)
const nf4 = values.weights === 'nf4-dense' ? 'dense' : 'packed'
const model = await loadModel(values.model, { quantization: values.weights === 'dense' ? 'none' : 'nf4' })
const plan = planLora(
  parseLoraConfig({ r: 16, loraAlpha: 32, targetModules: ['q_proj', 'k_proj', 'v_proj', 'o_proj'] }),
  modulesOfModel(model.architecture.parameters(model.config)),
)
const step = await createTrainStep({
  backend: ortBackend({ threads, nf4 }),
  model,
  adapter: await initializeAdapter(plan, { seed: 1 }),
  options: parseTrainingOptions({ gradientAccumulationSteps: 1 }),
  checkpointing: values.checkpointing === 'full' ? 'full' : 'none',
})

/** Every position is trained but the last: the same work as the peer's labels = ids. */
function batchOf() {
  const size = batchSize * sequenceLength
  const inputIds = Int32Array.from({ length: size }, (_, i) => (i * 7919 + 13) % model.config.vocabSize)
  const at = (/** @type {number} */ i) => i % sequenceLength
  return {
    batchSize,
    sequenceLength,
    inputIds,
    targets: inputIds.map((_, i) => (at(i) + 1 < sequenceLength ? inputIds[i + 1] : -100)),
    positions: inputIds.map((_, i) => at(i)),
    segmentIds: new Int32Array(size).fill(1),
    trainedTokens: batchSize * (sequenceLength - 1),
  }
}

const batch = batchOf()
const times = []
const losses = []
for (let i = 0; i < steps + 2; i++) {
  const start = performance.now()
  const { lossSum, tokens } = await step.accumulate(batch, { microStep: i })
  await step.update({ learningRate: 1e-3, step: i + 1, tokens })
  if (i >= 2) times.push(performance.now() - start)
  losses.push(lossSum / tokens)
}
const peakMb = process.resourceUsage().maxRSS / 1024
const rate = Math.max(await matmulRate(threads), await matmulRate(threads))
console.log(JSON.stringify({ ms: median(times), best: Math.min(...times), peakMb, rate, losses: losses.slice(0, 3) }))
await step.dispose()
await model.weights.close()
