// One variant of bench/train-cpu in a process of its own, so that its peak memory is its own. Prints one line of JSON.
import { parseArgs } from 'node:util'
import type { Batch } from '@mirastral/data'
import { ortBackend } from '@mirastral/engine'
import { initializeAdapter, modulesOfModel, parseLoraConfig, planLora } from '@mirastral/lora'
import { loadModel } from '@mirastral/models'
import { createTrainStep, parseTrainingOptions } from '@mirastral/trainer'
import { matmulRate, median } from './lib/matmul-rate.js'

const { values } = parseArgs({
  options: {
    model: { type: 'string' },
    batch: { type: 'string' },
    length: { type: 'string', default: '256' },
    weights: { type: 'string' },
    checkpointing: { type: 'string' },
    threads: { type: 'string' },
    steps: { type: 'string' },
    ids: { type: 'string', default: '' },
  },
})
const [batchSize, sequenceLength, threads, steps] = [values.batch, values.length, values.threads, values.steps].map(
  Number,
)
const model = await loadModel(values.model ?? '', { quantization: values.weights === 'nf4' ? 'nf4' : 'none' })
const plan = planLora(
  parseLoraConfig({ r: 16, loraAlpha: 32, targetModules: ['q_proj', 'k_proj', 'v_proj', 'o_proj'] }),
  modulesOfModel(model.architecture.parameters(model.config)),
)
const step = await createTrainStep({
  backend: ortBackend({ threads }),
  model,
  adapter: await initializeAdapter(plan, { seed: 1 }),
  options: parseTrainingOptions({ gradientAccumulationSteps: 1 }),
  checkpointing: values.checkpointing === 'full' ? 'full' : 'none',
})

/** Every position is trained but the last: the same work as the peer's labels = ids. */
function batchOf(): Batch {
  const size = batchSize * sequenceLength
  const inputIds = Int32Array.from({ length: size }, (_, i) => (i * 7919 + 13) % 49152)
  const at = (i: number) => i % sequenceLength
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
const times: number[] = []
const losses: number[] = []
for (let i = 0; i < steps + 2; i++) {
  const start = performance.now()
  const { lossSum, tokens } = await step.accumulate(batch, { microStep: i })
  await step.update({ learningRate: 1e-3, step: i + 1, tokens })
  if (i >= 2) times.push(performance.now() - start)
  losses.push(lossSum / tokens)
}
const peakMb = process.resourceUsage().maxRSS / 1024
const rate = await matmulRate(threads)
console.log(JSON.stringify({ ms: median(times), best: Math.min(...times), peakMb, rate, losses: losses.slice(0, 3) }))
await step.dispose()
await model.weights.close()
