// From the start of the process to the first optimizer step of a 7B NF4 model that lies on the disk in 4 bits.
// Usage: node --no-warnings --loader ts-node/esm start-cuda.ts --folder FOLDER   (the model is written there on first use)
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { cudaBackend } from '@mirastral/engine'
import { initializeAdapter, modulesOfModel, parseLoraConfig, planLora } from '@mirastral/lora'
import { loadModel, writeRandomNf4Model } from '@mirastral/models'
import { createTrainStep, parseTrainingOptions } from '@mirastral/trainer'
import { runWithOneLine } from './lib/one-line.js'

const CONFIG = {
  ...{ architectures: ['MistralForCausalLM'], model_type: 'mistral', vocab_size: 32000, hidden_size: 4096 },
  ...{ intermediate_size: 14336, num_hidden_layers: 32, num_attention_heads: 32, num_key_value_heads: 8 },
  ...{ max_position_embeddings: 32768, rms_norm_eps: 1e-5, rope_theta: 1e6, sliding_window: null },
  ...{ tie_word_embeddings: false, initializer_range: 0.02 },
}
const [BATCH, TOKENS] = [1, 256]

const { values: args } = parseArgs({ options: { folder: { type: 'string', default: '.cache-7b' } } })

/** Seconds since the process began. */
const elapsed = (): string => (performance.now() / 1000).toFixed(2)

await runWithOneLine(async () => {
  if (!existsSync(join(args.folder, 'config.json'))) {
    await writeRandomNf4Model(args.folder, CONFIG, { seed: 1 })
    console.log(`wrote the model to ${args.folder} in ${elapsed()} s; run this again to measure`)
    return 0
  }
  const imported = elapsed()
  const model = await loadModel(args.folder, { dtype: 'bfloat16' })
  const opened = elapsed()
  const targetModules = ['q_proj', 'k_proj', 'v_proj', 'o_proj']
  const modules = modulesOfModel(model.architecture.parameters(model.config))
  const plan = planLora(parseLoraConfig({ r: 16, loraAlpha: 32, targetModules }), modules)
  const adapter = await initializeAdapter(plan, { seed: 1 })
  const step = await createTrainStep({
    backend: cudaBackend({ nf4: 'packed' }),
    model,
    adapter,
    options: parseTrainingOptions({ maxLength: TOKENS }),
    checkpointing: 'full',
  })
  const ready = elapsed()
  const inputIds = Int32Array.from({ length: TOKENS }, (_, i) => (i * 7919) % CONFIG.vocab_size)
  const batch = {
    ...{ batchSize: BATCH, sequenceLength: TOKENS, inputIds, trainedTokens: TOKENS - 1 },
    targets: Int32Array.from(inputIds, (_, i) => (i === TOKENS - 1 ? -100 : inputIds[i + 1])),
    positions: Int32Array.from(inputIds, (_, i) => i),
    segmentIds: new Int32Array(TOKENS).fill(1),
  }
  const { lossSum } = await step.accumulate(batch, { microStep: 1 })
  const first = elapsed()
  await step.update({ learningRate: 1e-4, step: 1, tokens: batch.trainedTokens })
  console.log(
    `first optimizer step after ${elapsed()} s: imported ${imported}, opened ${opened}, adapter ready ${ready}, ` +
      `weights bound, compiled and first micro-step ${first}; loss ${(lossSum / batch.trainedTokens).toFixed(4)}`,
  )
  await step.dispose()
  await model.weights.close()
  return 0
})
