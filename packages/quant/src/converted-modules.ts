import type { TensorInfo } from '@mirastral/safetensors'

/**
 * The last word of modules that stay in full precision: embeddings, which are not linear layers, and output
 * embeddings, which Transformers leaves alone (quantizers/base.py, `get_keys_to_not_convert`).
 */
const kept = /^(embed_tokens|tok_embeddings|embeddings?|wte|wpe|lm_head|embed_out|output)$/

/**
 * Whether bitsandbytes' integration in Transformers makes this parameter a 4-bit one: the weight of a linear layer that
 * is neither the output embedding nor named in `skipModules`. Those are whole module names, beginnings up to a dot or
 * endings, as `llm_int8_skip_modules` has them.
 */
export function isConverted(
  name: string,
  { dtype, shape }: Pick<TensorInfo, 'dtype' | 'shape'>,
  skipModules: readonly string[] = [],
): boolean {
  if (!name.endsWith('.weight') || shape.length !== 2) return false
  if (dtype !== 'F32' && dtype !== 'F16' && dtype !== 'BF16') return false
  const module = name.slice(0, -'.weight'.length)
  if (
    kept.test(module.slice(module.lastIndexOf('.') + 1)) ||
    /embed|norm/.test(module.slice(module.lastIndexOf('.') + 1))
  ) {
    return false
  }
  return !skipModules.some((skip) => module === skip || module.startsWith(`${skip}.`) || module.endsWith(skip))
}
