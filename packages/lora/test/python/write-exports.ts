/**
 * For check_exports.py: writes adapters, merged models and GGUF files made from the goldens' tiny model into a folder,
 * and the logits that MiraStral computes with each adapter.
 */
import { mkdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { f32, Graph, i32, linear, ortBackend, reshape } from '@mirastral/engine'
import {
  adapterName,
  initializeAdapter,
  loadAdapter,
  mergeAdapter,
  modulesOfModel,
  parseLoraConfig,
  plainLora,
  planLora,
  saveAdapter,
  subtractedName,
  withLora,
  writeGgufAdapter,
} from '@mirastral/lora'
import type { InitialAdapter, LoraOptions } from '@mirastral/lora'
import {
  architectureOf,
  bindConstants,
  checkpointWeights,
  forwardContext,
  openCheckpoint,
  outputEmbedding,
} from '@mirastral/models'
import { readFloat32, writeSafetensors } from '@mirastral/safetensors'

const [base, out] = process.argv.slice(2)
const TOKENS = 12

const cases: Record<string, LoraOptions> = {
  plain: { r: 4, loraAlpha: 8, targetModules: 'all-linear' },
  stabilised: {
    r: 4,
    loraAlpha: 6,
    useRslora: true,
    targetModules: ['q_proj', 'k_proj', 'up_proj'],
    rankPattern: { up_proj: 2 },
  },
  dora: { r: 4, useDora: true, targetModules: ['v_proj', 'down_proj'] },
  modules: { r: 2, targetModules: ['q_proj'], modulesToSave: ['lm_head', 'norm'] },
  pissa: { r: 4, loraAlpha: 8, initLoraWeights: 'pissa', targetModules: ['o_proj', 'gate_proj'] },
  gaussian: { r: 4, initLoraWeights: 'gaussian', targetModules: ['q_proj', 'up_proj'] },
  orthogonal: { r: 4, initLoraWeights: 'orthogonal', targetModules: ['q_proj', 'up_proj'] },
  random: { r: 4, initLoraWeights: false, targetModules: ['q_proj', 'up_proj'] },
  olora: { r: 4, loraAlpha: 8, initLoraWeights: 'olora', targetModules: ['o_proj', 'gate_proj'] },
}

const checkpoint = await openCheckpoint(base)
const { config } = checkpoint

async function begin(options: LoraOptions): Promise<InitialAdapter> {
  const plan = planLora(
    parseLoraConfig({ baseModelNameOrPath: 'owner/tiny', ...options }),
    modulesOfModel(checkpoint.parameters),
  )
  const initial = await initializeAdapter(plan, {
    seed: 4,
    readParameter: (name) => readFloat32(checkpoint.reader, name),
  })
  // As if it had been trained: every value moved a little.
  for (const { data } of initial.tensors.values()) data.forEach((_, i) => (data[i] += 0.05 * Math.sin(i)))
  return initial
}

async function logits(adapter: InitialAdapter): Promise<Float32Array> {
  const weights = checkpointWeights(checkpoint, { quantization: 'none' })
  const session = await ortBackend({ threads: 1, worker: false }).createSession()
  for (const [key, { shape, data }] of adapter.tensors)
    await session.bind(adapterName(key), { type: f32(...shape), data })
  for (const [key, { shape, data }] of adapter.subtracted)
    await session.bind(subtractedName(key), { type: f32(...shape), data })
  const g = new Graph('logits')
  const ctx = withLora(forwardContext(g, weights.types), adapter.plan)
  const [ids, positions] = [g.input('ids', i32(1, TOKENS)), g.input('positions', i32(1, TOKENS))]
  const hidden = architectureOf(config).forward(ctx, config, { ids, positions, maxPositions: TOKENS })
  g.output('logits', linear(reshape(hidden, [TOKENS, config.hiddenSize]), ctx.parameter(outputEmbedding(config))))
  const program = g.build()
  await bindConstants(session, program, { config, weights })
  const executable = await session.compile(program)
  const range = Int32Array.from({ length: TOKENS }, (_, i) => i)
  const result = await executable.run({ ids: range.map((i) => (7 * i) % config.vocabSize), positions: range })
  await session.dispose()
  return result.logits as Float32Array
}

for (const [name, options] of Object.entries(cases)) {
  const initial = await begin(options)
  const folder = join(out, name)
  await mkdir(folder, { recursive: true })
  await saveAdapter(join(folder, 'adapter'), plainLora(initial, initial.subtracted))
  const entry = {
    name: 'logits',
    dtype: 'F32',
    shape: [TOKENS, config.vocabSize],
    data: await logits(initial),
  } as const
  await writeSafetensors(join(folder, 'logits.safetensors'), [entry])
  await mergeAdapter(base, join(folder, 'adapter'), join(folder, 'merged'), { maxShardBytes: 40_000 })
  if (name !== 'dora' && name !== 'modules') {
    const { adapter } = await loadAdapter(join(folder, 'adapter'), modulesOfModel(checkpoint.parameters))
    const json = JSON.parse(await readFile(join(base, 'config.json'), 'utf8')) as Record<string, number>
    const heads = { numAttentionHeads: json.num_attention_heads, numKeyValueHeads: json.num_key_value_heads }
    await writeGgufAdapter(join(folder, 'adapter.gguf'), adapter, { modelType: 'llama', ...heads })
  }
}
await checkpoint.reader.close()
