import { expect, test } from 'vitest'
import { addQuantizationConfig } from './bnb-config.js'

const config = { quantType: 'nf4', doubleQuant: true, computeDtype: 'bfloat16', skipModules: null } as const

test('the text of a config stays as it is, with the quantization added at its end', () => {
  const text = '{\n  "rms_norm_eps": 1e-05,\n  "rope_theta": 10000.0\n}\n'
  const result = addQuantizationConfig('config.json', text, config)
  expect(result.startsWith('{\n  "rms_norm_eps": 1e-05,\n  "rope_theta": 10000.0,\n  "quantization_config": {\n')).toBe(
    true,
  )
  expect(result).toContain('"llm_int8_threshold": 6.0,')
  expect(JSON.parse(result)).toMatchObject({
    rope_theta: 10000,
    quantization_config: { bnb_4bit_use_double_quant: true, llm_int8_skip_modules: null, quant_method: 'bitsandbytes' },
  })
  expect(JSON.parse(addQuantizationConfig('config.json', '{}', config))).toHaveProperty(
    'quantization_config.load_in_4bit',
    true,
  )
})

test.each([
  ['{"quantization_config": {}}', 'config.json: the model must be in full precision, got a quantization_config'],
  ['[]', 'config.json: must be a JSON object, got something else'],
  ['{', 'config.json: must be a JSON object, got something else'],
])('the config %s is refused', (text, message) => {
  expect(() => addQuantizationConfig('config.json', text, config)).toThrow(message)
})
