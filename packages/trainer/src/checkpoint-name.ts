import { readdir } from 'node:fs/promises'
import { systemErrorCode, writeError } from './errors.js'
import type { LoopState } from './state.js'

/**
 * A checkpoint's place in the run. `checkpoint-<step>` is a run between two steps; a stop inside an accumulation window or an
 * evaluation gives a partial one, `checkpoint-<step>-micro-<n>` or `checkpoint-<step>-evaluate-<n>` (`-start-<n>` for
 * the evaluation before the first step), which the next checkpoint replaces.
 */
export interface CheckpointName {
  readonly name: string
  readonly step: number
  readonly partial: { readonly kind: PartialKind; readonly done: number } | null
}

const partialKinds = ['evaluate', 'start', 'micro'] as const
type PartialKind = (typeof partialKinds)[number]

const pattern = /^checkpoint-(\d+)(?:-([a-z]+)-(\d+))?$/

export function parseCheckpointName(name: string): CheckpointName | null {
  const match = pattern.exec(name)
  if (!match) return null
  const [, step, word, done] = match
  if (word === undefined) return { name, step: Number(step), partial: null }
  const kind = partialKinds.find((k) => k === word)
  return kind === undefined ? null : { name, step: Number(step), partial: { kind, done: Number(done) } }
}

export function checkpointNameOf(state: LoopState): string {
  const base = `checkpoint-${state.startStep + state.step}`
  if (state.phase === 'evaluate') {
    return `${base}-${state.microSteps === 0 ? 'start' : 'evaluate'}-${state.evaluation.position}`
  }
  if (state.window.microBatches > 0) return `${base}-micro-${state.window.microBatches}`
  return base
}

/**
 * The evaluation after a step comes before its checkpoint; the start of the next run and the micro-batches of the next step
 * come after it.
 */
function order({ step, partial }: CheckpointName): [number, number, number] {
  return partial === null ? [step, 1, 0] : [step, { evaluate: 0, start: 2, micro: 3 }[partial.kind], partial.done]
}

export function compareCheckpoints(a: CheckpointName, b: CheckpointName): number {
  const [left, right] = [order(a), order(b)]
  return left[0] - right[0] || left[1] - right[1] || left[2] - right[2]
}

/** The checkpoints of a results folder, newest first; none if there is no such folder. */
export async function listCheckpoints(results: string): Promise<CheckpointName[]> {
  let names: string[]
  try {
    names = await readdir(results)
  } catch (error) {
    if (systemErrorCode(error) === 'ENOENT') return []
    throw writeError(error, `results folder ${results}`)
  }
  return names
    .map(parseCheckpointName)
    .filter((found) => found !== null)
    .sort((a, b) => compareCheckpoints(b, a))
}
