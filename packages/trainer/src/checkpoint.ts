import { mkdir, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { TensorEntry } from '@mirastral/safetensors'
import { readFloat32, SafetensorsFile, writeSafetensors } from '@mirastral/safetensors'
import { z } from 'zod'
import type { CheckpointName } from './checkpoint-name.js'
import { checkpointNameOf, listCheckpoints } from './checkpoint-name.js'
import { TrainerError, writeError } from './errors.js'
import { publishFolder, removeFolder, temporaryPrefix } from './files.js'
import { findDamage, parseJson, writeManifest } from './manifest.js'
import { loopStateSchema } from './state.js'
import type { DeviceState, StateTensor } from './step.js'
import { statePrefix, stateUnder } from './step.js'

/**
 * Writes `adapter_config.json` and `adapter_model.safetensors` (all of `weights`, by PEFT key) into an existing folder, as PEFT
 * does. `purpose` lets it add what only the final model needs, such as tokenizer files or a model card.
 */
export type SaveAdapter = (
  folder: string,
  weights: ReadonlyMap<string, StateTensor>,
  purpose: 'checkpoint' | 'final',
) => Promise<void>

export type JsonValue = string | number | boolean | null | readonly JsonValue[] | { readonly [key: string]: JsonValue }

const nameValues = z.record(z.string(), z.string())

const savedRunSchema = z.strictObject({
  format: z.literal(1),
  identity: nameValues,
  recipe: z.record(z.string(), z.union([z.string(), z.number(), z.null()])),
  totalSteps: z.number().int().positive(),
  microBatchesPerEpoch: z.number().int().positive(),
  /** What the caller wants to find again in the next segment: the list of files the run is trained on, for example. */
  sources: z.json(),
  /** Whether the final model is the best evaluated one (`loadBestModelAtEnd`) rather than the last. */
  finalIsBest: z.boolean(),
  logs: z.strictObject({ train: z.number(), eval: z.number(), speed: z.number() }),
  state: loopStateSchema,
})

/** Everything of a checkpoint but the tensors. */
export type SavedRun = z.infer<typeof savedRunSchema>

export interface Checkpoint extends CheckpointName {
  readonly folder: string
  readonly saved: SavedRun
}

const stateFile = 'mirastral_state.json'
const traceFile = 'trainer_state.json'
const adapterFile = 'adapter_model.safetensors'
const optimizerFile = 'optimizer.safetensors'

export interface CheckpointContent {
  readonly saved: SavedRun
  readonly device: DeviceState
  /** The file `trainer_state.json` as the Hugging Face Trainer writes it. */
  readonly trainerState: object
}

/**
 * Writes a checkpoint: whole, flushed and with a manifest in a temporary folder first, then under its name.
 * Returns its folder. On failure nothing is left behind.
 * @throws TrainerError `MIRASTRAL_DISK_FULL`, `MIRASTRAL_OUTPUT_UNWRITABLE`.
 */
export async function saveCheckpoint(
  results: string,
  content: CheckpointContent,
  saveAdapter: SaveAdapter,
): Promise<string> {
  const name = checkpointNameOf(content.saved.state)
  const folder = join(results, name)
  const temporary = join(results, `${temporaryPrefix}${name}`)
  try {
    await rm(temporary, { recursive: true, force: true })
    await mkdir(temporary, { recursive: true })
    await writeContent(temporary, content, saveAdapter)
    await publishFolder(temporary, folder)
    return folder
  } catch (error) {
    await rm(temporary, { recursive: true, force: true })
    throw writeError(error, `checkpoint ${folder}`, await namePrevious(results))
  }
}

async function writeContent(folder: string, content: CheckpointContent, saveAdapter: SaveAdapter): Promise<void> {
  const { saved, device, trainerState } = content
  await saveAdapter(folder, stateUnder(device, statePrefix.adapter), 'checkpoint')
  const rest = await notInAdapterFile(folder, device)
  if (saved.state.window.microBatches === 0) {
    // Between two steps the accumulators are zero; resuming sets them so.
    for (const name of rest.keys()) if (name.startsWith(statePrefix.gradient)) rest.delete(name)
  }
  const entries: TensorEntry[] = [...rest].map(([name, { shape, data }]) => ({ name, dtype: 'F32', shape, data }))
  await writeSafetensors(join(folder, optimizerFile), entries, { metadata: { format: 'pt' } })
  await writeFile(join(folder, stateFile), `${JSON.stringify(saved, null, 2)}\n`)
  await writeFile(join(folder, traceFile), `${JSON.stringify(trainerState, null, 2)}\n`)
  await writeManifest(folder)
}

/**
 * The state without what `adapter_model.safetensors` already holds in float32. An adapter file may store a tensor in another type
 * or leave it out (`modulesToSave` keeps the base model's type); the exact values then go beside the moments.
 */
async function notInAdapterFile(folder: string, device: DeviceState): Promise<DeviceState> {
  const rest: DeviceState = new Map(device)
  const file = await SafetensorsFile.open(join(folder, adapterFile))
  try {
    for (const [key, info] of file.tensors) {
      const tensor = device.get(statePrefix.adapter + key)
      if (tensor && info.dtype === 'F32' && String(info.shape) === String(tensor.shape))
        rest.delete(statePrefix.adapter + key)
    }
  } finally {
    await file.close()
  }
  return rest
}

async function namePrevious(results: string): Promise<string> {
  const previous = await findNewestCheckpoint(results, () => undefined).catch(() => null)
  return previous
    ? `Nothing that was saved is lost: training resumes from ${previous.folder}.`
    : 'There is no earlier checkpoint.'
}

/** All tensors of a checkpoint under their state names; accumulators that it leaves out are left out here too. */
export async function readDeviceState(checkpoint: { readonly folder: string }): Promise<DeviceState> {
  const state: DeviceState = new Map()
  await readTensors(join(checkpoint.folder, adapterFile), statePrefix.adapter, state)
  await readTensors(join(checkpoint.folder, optimizerFile), '', state)
  return state
}

async function readTensors(path: string, prefix: string, into: DeviceState): Promise<void> {
  const file = await SafetensorsFile.open(path)
  try {
    for (const [name, { shape }] of file.tensors) {
      into.set(prefix + name, { shape, data: await readFloat32(file, name) })
    }
  } finally {
    await file.close()
  }
}

/** The records that `trainer_state.json` keeps of the run so far. */
export async function readLogHistory(checkpoint: { readonly folder: string }): Promise<object[]> {
  const schema = z.object({ log_history: z.array(z.looseObject({})) })
  const parsed = schema.safeParse(parseJson(await readFile(join(checkpoint.folder, traceFile), 'utf8')))
  return parsed.success ? parsed.data.log_history : []
}

/** The newest checkpoint that verifies, or null if there is none at all. Damaged ones are named to `warn`. */
export async function findNewestCheckpoint(
  results: string,
  warn: (message: string) => void,
): Promise<Checkpoint | null> {
  let damaged = 0
  for (const found of await listCheckpoints(results)) {
    const folder = join(results, found.name)
    const damage = await findDamage(folder)
    if (damage === null) {
      const checkpoint = await readSaved(found, folder)
      if (damaged > 0) warn(`resuming from ${checkpoint.folder} instead`)
      return checkpoint
    }
    damaged++
    warn(`checkpoint ${folder} is damaged and is not used: ${damage}`)
  }
  if (damaged === 0) return null
  const message = `checkpoints in ${results}: at least one must be whole, got ${damaged} damaged; restore one from a copy, or start anew with forceRestart (--force-restart), which keeps the old folder`
  throw new TrainerError('MIRASTRAL_CHECKPOINT_DAMAGED', message)
}

async function readSaved(name: CheckpointName, folder: string): Promise<Checkpoint> {
  const parsed = savedRunSchema.safeParse(parseJson(await readFile(join(folder, stateFile), 'utf8')))
  if (parsed.success) return { ...name, folder, saved: parsed.data }
  const where = parsed.error.issues.map((issue) => issue.path.join('.')).join(', ')
  const message = `checkpoint ${folder}: ${stateFile} must have the format of this version, got other fields (${where}); use the version that wrote it, or start anew with forceRestart`
  throw new TrainerError('MIRASTRAL_CHECKPOINT_MISMATCH', message)
}

/** Reads one checkpoint by folder, verified. Null if it is damaged or not there. */
export async function readCheckpoint(results: string, name: CheckpointName): Promise<Checkpoint | null> {
  const folder = join(results, name.name)
  return (await findDamage(folder)) === null ? readSaved(name, folder) : null
}

/**
 * Removes what a new checkpoint makes superfluous: partial ones, and beyond `limit` the oldest ones; never the new one and
 * never the best.
 */
export async function rotateCheckpoints(
  results: string,
  newest: string,
  best: string | null,
  limit: number | null,
): Promise<void> {
  const all = await listCheckpoints(results)
  const isKept = (c: CheckpointName): boolean => c.name === newest || c.name === best
  const whole = all.filter((c) => c.partial === null || c.name === newest)
  // Transformers counts the best one too: with a limit of 1 the newest and the best remain.
  const others = whole.filter((c) => !isKept(c))
  const room = limit === null ? others.length : Math.max(0, limit - (whole.length - others.length))
  const superfluous = [...all.filter((c) => c.partial !== null && !isKept(c)), ...others.slice(room)]
  for (const { name } of superfluous) await removeFolder(join(results, name))
}
