import type { Architecture } from './architecture.js'
import type { ModelConfig } from './config.js'
import { internal, ModelError } from './errors.js'
import { llama } from './llama.js'
import { mistral } from './mistral.js'
import { qwen2 } from './qwen2.js'
import { qwen3 } from './qwen3.js'

/** Every architecture, by `model_type`. A new one is a file and a line here. */
export const architectures: readonly Architecture[] = [llama, mistral, qwen2, qwen3]

/** The architecture of a configuration that was read here. */
export function architectureOf(config: ModelConfig): Architecture {
  const found = architectures.find(({ modelType }) => modelType === config.modelType)
  if (!found) throw internal(`no architecture ${config.modelType}`)
  return found
}

/**
 * Reads a config.json of any supported architecture. `json`: the parsed file; `who`: its path, for errors.
 * Throws ModelError (kind `config`): not an object, `model_type` unknown, or every problem of its keys at once.
 */
export function parseModelConfig(json: unknown, who = 'config.json'): ModelConfig {
  if (typeof json !== 'object' || json === null || Array.isArray(json)) {
    throw new ModelError('config', `${who}: must be a JSON object`)
  }
  const record = json as Record<string, unknown>
  const architecture = architectures.find(({ modelType }) => modelType === record.model_type)
  if (!architecture) {
    const known = architectures.map(({ modelType }) => modelType).join(', ')
    const given = record.model_type === undefined ? 'nothing' : JSON.stringify(record.model_type)
    throw new ModelError('config', `${who}: model_type must be one of ${known}, got ${given}`)
  }
  return architecture.parseConfig(record, who)
}
