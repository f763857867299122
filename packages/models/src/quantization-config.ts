import * as z from 'zod'

/** A checkpoint whose linear layers bitsandbytes stored in 4 bits. */
export interface Quantization {
  readonly quantMethod: 'bitsandbytes'
  readonly quantType: 'nf4' | 'fp4'
  /** The block scales are themselves stored in 8 bits. */
  readonly doubleQuant: boolean
  /** Module names left unquantized, where the checkpoint lists them. */
  readonly skipModules: readonly string[]
}

const schema = z.object({
  quant_method: z.literal('bitsandbytes'),
  load_in_4bit: z.literal(true),
  // The default of Transformers' BitsAndBytesConfig is fp4; checkpoints in the wild nearly always say nf4.
  bnb_4bit_quant_type: z.enum(['nf4', 'fp4']).default('fp4'),
  bnb_4bit_use_double_quant: z.boolean().default(false),
  llm_int8_skip_modules: z.array(z.string()).nullish(),
})

const rules: Record<string, string> = {
  quant_method: 'only bitsandbytes is supported; use the unquantized checkpoint, it is quantized while loading',
  load_in_4bit: 'only 4-bit bitsandbytes checkpoints are supported; use the unquantized checkpoint',
  bnb_4bit_quant_type: 'must be nf4 or fp4',
  bnb_4bit_use_double_quant: 'must be true or false',
  llm_int8_skip_modules: 'must be a list of module names',
}

/** Reads `quantization_config` of a config.json (absent or null: not quantized). What is wrong is added to `problems`. */
export function parseQuantization(json: unknown, problems: string[]): Quantization | null {
  if (json === undefined || json === null) return null
  const parsed = schema.safeParse(json)
  if (parsed.success) {
    return {
      quantMethod: 'bitsandbytes',
      quantType: parsed.data.bnb_4bit_quant_type,
      doubleQuant: parsed.data.bnb_4bit_use_double_quant,
      skipModules: parsed.data.llm_int8_skip_modules ?? [],
    }
  }
  const given = z.record(z.string(), z.unknown()).safeParse(json)
  const values = given.success ? given.data : {}
  const keys = [...new Set(parsed.error.issues.map((issue) => String(issue.path[0] ?? '')))]
  // Another method has other keys: that they are absent says nothing more.
  for (const key of keys.includes('quant_method') ? ['quant_method'] : keys) {
    if (key === '') problems.push('quantization_config: must be an object')
    else
      problems.push(
        `quantization_config.${key}: ${rules[key] ?? 'is wrong'}, got ${JSON.stringify(values[key]) ?? 'nothing'}`,
      )
  }
  return null
}
