import type { QuantType } from './codebook.js'
import { QuantError } from './errors.js'
import type { FloatDtype } from './tensor.js'

export interface BnbConfig {
  quantType: QuantType
  doubleQuant: boolean
  computeDtype: FloatDtype
  /** null: Transformers' own choice, which keeps the output embedding. */
  skipModules: readonly string[] | null
}

/**
 * A model's config.json with the `quantization_config` that Transformers' `BitsAndBytesConfig` saves added at its end;
 * the rest of the text stays as it is, numbers included. `llm_int8_threshold` must be written 6.0: as an integer it is
 * refused. Throws QuantError `malformed` where the text is not a JSON object or describes a quantized model.
 */
export function addQuantizationConfig(path: string, configText: string, config: BnbConfig): string {
  let json: unknown
  try {
    json = JSON.parse(configText)
  } catch {
    json = undefined
  }
  if (typeof json !== 'object' || json === null || Array.isArray(json)) {
    throw new QuantError('malformed', `${path}: must be a JSON object, got something else`)
  }
  if ('quantization_config' in json) {
    throw new QuantError('malformed', `${path}: the model must be in full precision, got a quantization_config`)
  }
  const fields = {
    _load_in_4bit: 'true',
    _load_in_8bit: 'false',
    bnb_4bit_compute_dtype: JSON.stringify(config.computeDtype),
    bnb_4bit_quant_storage: '"uint8"',
    bnb_4bit_quant_type: JSON.stringify(config.quantType),
    bnb_4bit_use_double_quant: String(config.doubleQuant),
    llm_int8_enable_fp32_cpu_offload: 'false',
    llm_int8_has_fp16_weight: 'false',
    llm_int8_skip_modules: JSON.stringify(config.skipModules),
    llm_int8_threshold: '6.0',
    load_in_4bit: 'true',
    load_in_8bit: 'false',
    quant_method: '"bitsandbytes"',
  }
  const lines = Object.entries(fields).map(([key, value]) => `    "${key}": ${value}`)
  const head = configText.slice(0, configText.lastIndexOf('}')).trimEnd()
  const comma = Object.keys(json).length > 0 ? ',' : ''
  return `${head}${comma}\n  "quantization_config": {\n${lines.join(',\n')}\n  }\n}\n`
}
