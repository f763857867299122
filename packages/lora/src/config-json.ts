import { LoraError, listProblems } from './errors.js'
import { checkLoraConfig } from './config.js'
import type { LoraConfig } from './config.js'
import { PythonFloat, pythonJson } from './python-json.js'
import type { PythonJson } from './python-json.js'

/** The PEFT release whose `adapter_config.json` is written; it is stored in the file as `peft_version`. */
export const PEFT_FORMAT_VERSION = '0.21.2'

/** PEFT's key for each field that is carried over. */
const keys: Readonly<Record<keyof LoraConfig, string>> = {
  r: 'r',
  loraAlpha: 'lora_alpha',
  loraDropout: 'lora_dropout',
  targetModules: 'target_modules',
  excludeModules: 'exclude_modules',
  bias: 'bias',
  useRslora: 'use_rslora',
  useDora: 'use_dora',
  loraBias: 'lora_bias',
  modulesToSave: 'modules_to_save',
  rankPattern: 'rank_pattern',
  alphaPattern: 'alpha_pattern',
  layersToTransform: 'layers_to_transform',
  layersPattern: 'layers_pattern',
  initLoraWeights: 'init_lora_weights',
  baseModelNameOrPath: 'base_model_name_or_path',
  revision: 'revision',
  taskType: 'task_type',
}

/** The value that PEFT writes for a feature which is not used; any other value means that the feature is needed. */
const unusedFeatures: Readonly<Record<string, PythonJson>> = {
  alora_invocation_tokens: null,
  arrow_config: null,
  corda_config: null,
  eva_config: null,
  fan_in_fan_out: false,
  kasa_config: null,
  layer_replication: null,
  lora_ga_config: null,
  megatron_config: null,
  monteclora_config: null,
  target_parameters: null,
  trainable_token_indices: null,
  use_bdlora: null,
  use_qalora: false,
  velora_config: null,
}

/** Keys that are written with PEFT's default and have no effect when read. */
const inertKeys: Readonly<Record<string, PythonJson>> = {
  auto_mapping: null,
  ensure_weight_tying: false,
  inference_mode: true,
  loftq_config: {},
  megatron_core: 'megatron.core',
  qalora_group_size: 16,
}

/** Initialisations that leave the base model as it is: how A and B began says nothing about them once they are trained. */
const initsOnTheBase = ['eva', 'mica']

/**
 * The text of an `adapter_config.json`, byte for byte as PEFT writes it: every key, sorted, indented by two, no newline
 * at the end.
 */
export function formatAdapterConfig(config: LoraConfig): string {
  const record: Record<string, PythonJson> = { ...unusedFeatures, ...inertKeys }
  for (const [field, key] of Object.entries(keys)) {
    record[key] = config[field as keyof LoraConfig]
  }
  record.lora_dropout = new PythonFloat(config.loraDropout)
  record.peft_type = 'LORA'
  record.peft_version = PEFT_FORMAT_VERSION
  return pythonJson(record)
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/** Whether a value switches a feature off: PEFT's default, or any of its empty forms. */
function isUnused(value: unknown): boolean {
  if (value === null || value === false || value === undefined) return true
  if (Array.isArray(value)) return value.length === 0
  return isRecord(value) && Object.keys(value).length === 0
}

/**
 * Reads the text of an `adapter_config.json`.
 *
 * Keys that are not known are dropped and named in `warnings`, as PEFT does with files of later releases. Features that
 * change what an adapter computes and are not supported here are refused by name.
 *
 * @throws LoraError MIRASTRAL_LORA_CONFIG that names every problem at once
 */
export function parseAdapterConfig(
  text: string,
  who = 'adapter_config.json',
): { config: LoraConfig; warnings: string[] } {
  const json = parseJson(text, who)
  const problems: string[] = []
  const peftType = json.peft_type
  if (peftType !== 'LORA') {
    problems.push(`peft_type: must be "LORA", got ${peftType === undefined ? 'nothing' : JSON.stringify(peftType)}`)
  }
  for (const feature of Object.keys(unusedFeatures)) {
    if (!isUnused(json[feature])) problems.push(`${feature}: is used by this adapter and is not supported`)
  }
  const options: Record<string, unknown> = {}
  for (const [field, key] of Object.entries(keys)) {
    const value = json[key]
    if (value !== undefined && value !== null) options[field] = dropEmptyList(value)
    else if (field === 'taskType') options[field] = null
  }
  if (initsOnTheBase.includes(String(options.initLoraWeights))) delete options.initLoraWeights
  const checked = checkLoraConfig(options)
  problems.push(...checked.problems)
  if (checked.config === undefined || problems.length > 0) {
    throw new LoraError('MIRASTRAL_LORA_CONFIG', listProblems(who, problems))
  }
  return { config: checked.config, warnings: unknownKeys(json, who) }
}

function parseJson(text: string, who: string): Record<string, unknown> {
  let json: unknown
  try {
    json = JSON.parse(text)
  } catch (cause) {
    throw new LoraError('MIRASTRAL_LORA_CONFIG', `${who}: is not valid JSON`, { cause })
  }
  if (!isRecord(json)) throw new LoraError('MIRASTRAL_LORA_CONFIG', `${who}: must hold a JSON object`)
  return json
}

/** PEFT treats an empty list of names as none given. */
function dropEmptyList(value: unknown): unknown {
  return Array.isArray(value) && value.length === 0 ? null : value
}

function unknownKeys(json: Record<string, unknown>, who: string): string[] {
  const known = new Set([...Object.values(keys), ...Object.keys(unusedFeatures), ...Object.keys(inertKeys)])
  for (const key of ['peft_type', 'peft_version', 'runtime_config']) known.add(key)
  const unknown = Object.keys(json).filter((key) => !known.has(key))
  if (unknown.length === 0) return []
  return [`${who}: ignores ${unknown.length === 1 ? 'the unknown key' : 'the unknown keys'} ${unknown.join(', ')}`]
}
