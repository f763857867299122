import { mkdir, readFile, stat } from 'node:fs/promises'
import { join } from 'node:path'
import {
  SafetensorsFile,
  f32ToBf16,
  f32ToF16,
  readFloat32,
  writeFileAtomically,
  writeSafetensors,
} from '@mirastral/safetensors'
import type { TensorEntry, TypedArray } from '@mirastral/safetensors'
import { changesBase } from './config.js'
import type { LoraConfig } from './config.js'
import { formatAdapterConfig, parseAdapterConfig } from './config-json.js'
import { LoraError, listProblems } from './errors.js'
import { splitPlainLora } from './init.js'
import type { Adapter, AdapterTensor, InitialAdapter } from './init.js'
import { adapterTensors } from './keys.js'
import { planLora } from './targets.js'
import type { LoraPlan, ModuleInfo } from './targets.js'

export const ADAPTER_CONFIG = 'adapter_config.json'
export const ADAPTER_WEIGHTS = 'adapter_model.safetensors'

/** The element types in which an adapter may be stored. */
export type AdapterDtype = 'F32' | 'F16' | 'BF16'

function encode(data: Float32Array, dtype: AdapterDtype): TypedArray {
  if (dtype === 'F16') return f32ToF16(data)
  return dtype === 'BF16' ? f32ToBf16(data) : data
}

/**
 * Writes `adapter_model.safetensors` and `adapter_config.json` into a folder (made if need be), as PEFT does; PEFT's
 * `PeftModel.from_pretrained` loads it. Each file is whole or as it was before; the configuration is written last.
 *
 * @param adapter plain LoRA: for PiSSA and OLoRA pass it through `plainLora` first
 * @param options `dtype`: how the tensors are stored, F32 unless told
 * @throws LoraError MIRASTRAL_LORA_WEIGHTS when tensors are missing, unexpected or of the wrong size
 */
export async function saveAdapter(
  folder: string,
  { plan, tensors }: Adapter,
  options: { dtype?: AdapterDtype } = {},
): Promise<void> {
  const { dtype = 'F32' } = options
  if (changesBase(plan.config.initLoraWeights)) {
    const init = JSON.stringify(plan.config.initLoraWeights)
    throw new LoraError(
      'MIRASTRAL_LORA_WEIGHTS',
      `internal: saveAdapter: an adapter begun with ${init} must be made plain by plainLora first`,
      { exitCode: 1 },
    )
  }
  const expected = adapterTensors(plan)
  const problems = compare(expected, new Map([...tensors].map(([key, { shape }]) => [key, shape])))
  for (const [key, { shape, data }] of tensors) {
    const size = shape.reduce((a, b) => a * b, 1)
    if (data.length !== size)
      problems.push(`${key}: shape [${shape.join(', ')}] needs ${size} values, got ${data.length}`)
  }
  if (problems.length > 0) {
    throw new LoraError('MIRASTRAL_LORA_WEIGHTS', listProblems('internal: saveAdapter', problems), { exitCode: 1 })
  }
  await mkdir(folder, { recursive: true })
  const entries = [...tensors].map(([name, { shape, data }]): TensorEntry => {
    return { name, dtype, shape: [...shape], data: encode(data, dtype) }
  })
  await writeSafetensors(join(folder, ADAPTER_WEIGHTS), entries, { metadata: { format: 'pt' } })
  await writeFileAtomically(join(folder, ADAPTER_CONFIG), formatAdapterConfig(plan.config))
}

/**
 * Reads the configuration of an adapter folder.
 *
 * @throws LoraError MIRASTRAL_LORA_CONFIG when there is none or it cannot be used
 */
export async function readAdapterConfig(folder: string): Promise<{ config: LoraConfig; warnings: string[] }> {
  const path = join(folder, ADAPTER_CONFIG)
  let text: string
  try {
    text = await readFile(path, 'utf8')
  } catch (cause) {
    throw new LoraError('MIRASTRAL_LORA_CONFIG', `${path}: cannot be read; is ${folder} an adapter folder?`, { cause })
  }
  return parseAdapterConfig(text, path)
}

/** An adapter read from a folder, and what its reader may want to tell. */
export interface LoadedAdapter {
  readonly adapter: Adapter
  readonly warnings: readonly string[]
}

/**
 * Reads an adapter folder, of ours or of PEFT, for a model. Tensors stored as F16, BF16 or F64 become float32.
 *
 * @param modules the model's modules; see {@link ModuleInfo}
 * @throws LoraError MIRASTRAL_LORA_CONFIG or MIRASTRAL_LORA_TARGET for its configuration, MIRASTRAL_LORA_WEIGHTS that
 *   names every missing, unexpected and mis-shaped tensor at once; SafetensorsError for a damaged file
 */
export async function loadAdapter(folder: string, modules: readonly ModuleInfo[]): Promise<LoadedAdapter> {
  const { config, warnings } = await readAdapterConfig(folder)
  if (changesBase(config.initLoraWeights)) {
    throw new LoraError(
      'MIRASTRAL_LORA_WEIGHTS',
      `${folder}: its base weights were changed by init_lora_weights "${String(config.initLoraWeights)}"; save it in PEFT ` +
        'with path_initial_model_for_weight_conversion, which makes it a plain adapter',
    )
  }
  const plan = planLora(config, modules)
  const file = await openWeights(folder)
  try {
    const problems = compare(adapterTensors(plan), new Map([...file.tensors].map(([k, { shape }]) => [k, shape])))
    for (const [key, { dtype }] of file.tensors) {
      if (!['F32', 'F16', 'BF16', 'F64'].includes(dtype)) problems.push(`${key}: must hold floats, got ${dtype}`)
    }
    if (problems.length > 0) throw new LoraError('MIRASTRAL_LORA_WEIGHTS', listProblems(file.path, problems))
    const tensors = new Map<string, AdapterTensor>()
    for (const [key, shape] of adapterTensors(plan)) tensors.set(key, { shape, data: await readFloat32(file, key) })
    return { adapter: { plan, tensors }, warnings: [...warnings, ...plan.warnings] }
  } finally {
    await file.close()
  }
}

/**
 * The adapter of a run that goes on, from a folder that `saveAdapter` wrote: what a PiSSA or OLoRA run took off the base comes
 * from there too, so that nothing is decomposed again and another machine or seed makes no difference.
 *
 * @param plan of the run, as it began: not of doubled rank
 * @throws LoraError and SafetensorsError as `loadAdapter`; MIRASTRAL_LORA_WEIGHTS where the folder is another plan's
 */
export async function reopenAdapter(
  folder: string,
  plan: LoraPlan,
  modules: readonly ModuleInfo[],
): Promise<InitialAdapter> {
  const { tensors } = (await loadAdapter(folder, modules)).adapter
  const opened = changesBase(plan.config.initLoraWeights)
    ? splitPlainLora(plan, tensors)
    : { tensors, subtracted: new Map<string, AdapterTensor>() }
  const problems = compare(adapterTensors(plan), new Map([...opened.tensors].map(([key, { shape }]) => [key, shape])))
  if (problems.length > 0) throw new LoraError('MIRASTRAL_LORA_WEIGHTS', listProblems(folder, problems))
  return { plan, ...opened }
}

async function openWeights(folder: string): Promise<SafetensorsFile> {
  const path = join(folder, ADAPTER_WEIGHTS)
  const exists = async (name: string): Promise<boolean> => (await stat(join(folder, name)).catch(() => null)) !== null
  if (!(await exists(ADAPTER_WEIGHTS)) && (await exists('adapter_model.bin'))) {
    throw new LoraError(
      'MIRASTRAL_LORA_WEIGHTS',
      `${folder}: has only adapter_model.bin, a pickle; load it in PEFT and save it again to get ${ADAPTER_WEIGHTS}`,
    )
  }
  return SafetensorsFile.open(path)
}

type Shapes = ReadonlyMap<string, readonly number[]>

/** Every difference between the tensors that should be there and those that are. */
function compare(expected: Shapes, actual: Shapes): string[] {
  const problems: string[] = []
  for (const [key, shape] of expected) {
    const got = actual.get(key)
    if (got === undefined) problems.push(`${key}: is missing, shape [${shape.join(', ')}]`)
    else if (got.join() !== shape.join())
      problems.push(`${key}: must have shape [${shape.join(', ')}], got [${got.join(', ')}]`)
  }
  for (const [key, shape] of actual) {
    if (!expected.has(key)) problems.push(`${key}: is unexpected, shape [${shape.join(', ')}]`)
  }
  return problems
}
