import type { Checkpoint, SavedRun } from './checkpoint.js'
import { findNewestCheckpoint } from './checkpoint.js'
import { TrainerError } from './errors.js'
import type { Recipe, TrainingOptions } from './options.js'
import { recipeOf } from './options.js'
import type { OutputPaths } from './results.js'
import { isFinalModelThere, outputPaths, readStatus } from './results.js'

/**
 * What a run rests on, as short strings (hashes, names, numbers): base model, adapter configuration, tokenizer, data
 * configuration. A checkpoint is only continued where all of them are equal; the message about a difference prints them.
 * The entry `data` names the training data themselves: a finished run is followed by a new one where only it differs.
 */
export type RunIdentity = Readonly<Record<string, string>> & { readonly data: string }

/** What is to be done in an output folder. */
export type Plan =
  | { readonly kind: 'fresh' }
  /** The checkpoint's run goes on. */
  | { readonly kind: 'resume'; readonly checkpoint: Checkpoint }
  /** The checkpoint's run is finished, but for its final model. */
  | { readonly kind: 'finalize'; readonly checkpoint: Checkpoint }
  /** The checkpoint's run is finished and there are other data: a new run starts from its adapter. */
  | { readonly kind: 'incremental'; readonly checkpoint: Checkpoint }
  | { readonly kind: 'nothing-new'; readonly checkpoint: Checkpoint }

/**
 * Decides what an output folder needs. Reads only.
 * @throws TrainerError `MIRASTRAL_CHECKPOINT_MISMATCH` that says what differs, `MIRASTRAL_CHECKPOINT_DAMAGED`.
 */
export async function planRun(o: {
  readonly paths: OutputPaths
  readonly identity: RunIdentity
  readonly options: TrainingOptions
  readonly hasData: boolean
  readonly warn: (message: string) => void
}): Promise<Plan> {
  const checkpoint = await findNewestCheckpoint(o.paths.results, o.warn)
  if (checkpoint === null) return { kind: 'fresh' }
  const { saved } = checkpoint
  const isFinished = saved.state.phase === 'finished'
  const hasOtherData = !o.hasData || saved.identity.data !== o.identity.data
  const { data: _ours, ...identity } = o.identity
  const { data: _theirs, ...savedIdentity } = saved.identity
  refuseDifferences(checkpoint, differences(savedIdentity, identity))
  if (isFinished && hasOtherData) return o.hasData ? { kind: 'incremental', checkpoint } : endOf(o.paths, checkpoint)
  if (hasOtherData)
    refuseDifferences(checkpoint, differences({ data: saved.identity.data ?? '' }, { data: o.identity.data }))
  checkRecipe(checkpoint, o.options, o.warn)
  return isFinished ? endOf(o.paths, checkpoint) : { kind: 'resume', checkpoint }
}

async function endOf(paths: OutputPaths, checkpoint: Checkpoint): Promise<Plan> {
  const status = await readStatus(paths)
  const { run, startStep, step } = checkpoint.saved.state
  const isKnown = status?.status === 'finished' && status.run === run && status.step === startStep + step
  const isComplete = isKnown && (await isFinalModelThere(paths, status))
  return { kind: isComplete ? 'nothing-new' : 'finalize', checkpoint }
}

function checkRecipe(checkpoint: Checkpoint, options: TrainingOptions, warn: (message: string) => void): void {
  const found = differences(checkpoint.saved.recipe, recipeOf(options))
  if (!options.acceptChangedOptions) {
    refuseDifferences(checkpoint, found, 'use the same options, continue with acceptChangedOptions')
  } else {
    for (const difference of found) warn(`option changed since the checkpoint: ${difference}`)
  }
}

function refuseDifferences(checkpoint: Checkpoint, found: readonly string[], advice = 'use the same ones'): void {
  if (found.length === 0) return
  const message = `checkpoint ${checkpoint.folder}: must belong to this run, got ${found.join('; ')}; ${advice}, choose another output folder, or start anew with forceRestart (--force-restart), which keeps the old folder`
  throw new TrainerError('MIRASTRAL_CHECKPOINT_MISMATCH', message)
}

type Values = Readonly<Record<string, string | number | null | undefined>>

/** One phrase for each name whose value differs. */
export function differences(saved: Values, now: Values | Recipe): string[] {
  const present: Values = now
  const names = [...new Set([...Object.keys(saved), ...Object.keys(present)])].sort()
  return names
    .filter((name) => saved[name] !== present[name])
    .map((name) => `${name} ${show(present[name])} where the checkpoint has ${show(saved[name])}`)
}

function show(value: string | number | null | undefined): string {
  if (value === undefined) return 'nothing'
  const text = String(value)
  return text.length > 40 ? `${text.slice(0, 37)}...` : text
}

/** What an output folder holds, for programs that must know before they load anything. */
export interface RunInspection {
  readonly state: 'none' | 'unfinished' | 'finished'
  readonly checkpoint: string | null
  readonly step: number
  readonly totalSteps: number
  readonly identity: SavedRun['identity'] | null
  /** What the run's caller passed to `train` as `sources`: an unfinished run must be continued with the same. */
  readonly sources: SavedRun['sources']
  readonly warnings: readonly string[]
}

/** @throws TrainerError `MIRASTRAL_CHECKPOINT_DAMAGED`, `MIRASTRAL_CHECKPOINT_MISMATCH`. */
export async function inspectRun(outputDir: string): Promise<RunInspection> {
  const warnings: string[] = []
  const { results } = outputPaths(outputDir)
  const checkpoint = await findNewestCheckpoint(results, (message) => warnings.push(message))
  if (checkpoint === null) {
    return { state: 'none', checkpoint: null, step: 0, totalSteps: 0, identity: null, sources: null, warnings }
  }
  const { state, totalSteps, identity, sources } = checkpoint.saved
  return {
    state: state.phase === 'finished' ? 'finished' : 'unfinished',
    checkpoint: checkpoint.folder,
    step: state.startStep + state.step,
    totalSteps: state.startStep + totalSteps,
    identity,
    sources,
    warnings,
  }
}
