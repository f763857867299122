import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { parseModelConfig, writeRandomModel } from '@mirastral/models'

/** The shape of SmolLM2-135M; the weights are random. */
export const smollm2 = {
  architectures: ['LlamaForCausalLM'],
  model_type: 'llama',
  hidden_size: 576,
  intermediate_size: 1536,
  num_hidden_layers: 30,
  num_attention_heads: 9,
  num_key_value_heads: 3,
  vocab_size: 49152,
  max_position_embeddings: 8192,
  rms_norm_eps: 1e-5,
  rope_theta: 100000,
  tie_word_embeddings: true,
  initializer_range: 0.04,
  torch_dtype: 'float32',
}

/** The folder of the random model, written on first use. */
export async function smollm2Folder(cache: string): Promise<string> {
  const folder = join(cache, 'smollm2-135m-random')
  if (!existsSync(join(folder, 'config.json'))) await writeRandomModel(folder, smollm2, { seed: 1 })
  return folder
}

/**
 * Floating-point operations of a LoRA training step on frozen weights, per step of batch x length tokens: each product is
 * done once forward and once for the input's gradient; attention is counted over the full square, as the other tools do.
 */
export function stepFlops(batch: number, length: number, rank: number): number {
  const c = parseModelConfig(smollm2)
  const [tokens, q, kv] = [batch * length, c.numAttentionHeads * c.headDim, c.numKeyValueHeads * c.headDim]
  const layer = c.hiddenSize * (2 * q + 2 * kv) + 3 * c.hiddenSize * c.intermediateSize
  const dense = 2 * (c.numHiddenLayers * layer + c.hiddenSize * c.vocabSize) * 2
  const attention = c.numHiddenLayers * 4 * length * q * 3
  const adapter = c.numHiddenLayers * 2 * rank * (2 * (c.hiddenSize + q) + 2 * (c.hiddenSize + kv)) * 3
  return tokens * (dense + attention + adapter)
}
