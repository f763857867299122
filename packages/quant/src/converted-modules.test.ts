import { expect, test } from 'vitest'
import { isConverted } from './converted-modules.js'

const info = (shape: number[], dtype: 'BF16' | 'U8' = 'BF16'): Parameters<typeof isConverted>[1] => ({
  dtype,
  shape,
})
const matrix = info([8, 8])

test.each([
  ['model.layers.0.self_attn.q_proj.weight', matrix, [], true],
  ['model.layers.0.mlp.gate_proj.weight', matrix, [], true],
  ['model.layers.0.mlp.gate_proj.bias', info([8]), [], false],
  ['model.layers.0.self_attn.q_norm.weight', info([8]), [], false],
  ['model.layers.0.input_layernorm.weight', info([8]), [], false],
  ['model.embed_tokens.weight', matrix, [], false],
  ['lm_head.weight', matrix, [], false],
  ['transformer.wte.weight', matrix, [], false],
  ['model.layers.0.self_attn.q_proj.weight', info([8, 8], 'U8'), [], false],
  ['model.layers.0.self_attn.q_proj.weight', matrix, ['q_proj'], false],
  ['model.layers.0.self_attn.q_proj.weight', matrix, ['model.layers.0'], false],
  ['model.layers.10.self_attn.q_proj.weight', matrix, ['model.layers.1'], true],
  ['model.layers.0.self_attn.q_proj.weight', matrix, ['model.layers.0.self_attn.q_proj'], false],
] as const)('%s is quantized or kept as Transformers does', (name, tensor, skip, converted) => {
  expect(isConverted(name, tensor, skip)).toBe(converted)
})
