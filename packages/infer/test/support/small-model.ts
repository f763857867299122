import { cp, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { initializeAdapter, modulesOfModel, parseLoraConfig, planLora, saveAdapter } from '@mirastral/lora'
import type { LoraOptions } from '@mirastral/lora'
import { loadModel, writeRandomModel } from '@mirastral/models'

const config = {
  architectures: ['MistralForCausalLM'],
  model_type: 'mistral',
  vocab_size: 2048,
  hidden_size: 64,
  intermediate_size: 128,
  num_hidden_layers: 2,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  max_position_embeddings: 512,
  sliding_window: null,
  initializer_range: 0.3,
  bos_token_id: 1,
  eos_token_id: 2,
}

export interface SmallModel {
  readonly folder: string
  /** Writes an adapter for the model that says something of its own, and gives its folder. */
  adapter(name: string, options?: LoraOptions): Promise<string>
  remove(): Promise<void>
}

/** A small random Mistral with the tokenizer of the examples, in a folder of its own. */
export async function smallModel(): Promise<SmallModel> {
  const root = await mkdtemp(join(tmpdir(), 'small-model-'))
  const folder = join(root, 'small')
  await writeRandomModel(folder, config, { seed: 5 })
  await cp(fileURLToPath(new URL('../../../../examples/tokenizer', import.meta.url)), folder, { recursive: true })
  return {
    folder,
    async adapter(name, options = {}) {
      const model = await loadModel(folder)
      const settings = { r: 4, loraAlpha: 16, targetModules: ['q_proj', 'v_proj'], initLoraWeights: false, ...options }
      const plan = planLora(parseLoraConfig(settings), modulesOfModel(model.architecture.parameters(model.config)))
      const seed = [...name].reduce((sum, c) => sum + c.charCodeAt(0), 0)
      const adapter = await initializeAdapter(plan, { seed })
      await saveAdapter(join(root, name), adapter)
      await model.weights.close()
      return join(root, name)
    },
    remove: () => rm(root, { recursive: true, force: true }),
  }
}
