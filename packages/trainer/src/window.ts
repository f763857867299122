import { lossScaleOf } from './loss-scale.js'
import type { Run } from './run.js'
import { windowSize } from './run.js'
import type { AccumulateResult, Merging } from './step.js'

/** Micro-batches that are run together, with their numbers in the run. */
export interface MicroBatches<B> {
  readonly batches: readonly B[]
  readonly microSteps: readonly number[]
}

/**
 * The next micro-batches of the window: one, or with merging on all that have the shape of the next one, as far as the memory
 * goes. Merged windows are run shape by shape, in the order in which the shapes first come; how many micro-batches of the
 * window are done says where in that order it stands, so that a checkpoint inside a window goes on with the same groups.
 */
export async function nextMicroBatches<B>(run: Run<B>): Promise<MicroBatches<B>> {
  const { state, train, step } = run
  const { merging } = step
  if (!state.merge.on || !merging) {
    return { batches: [await train.get(state.epoch, state.position)], microSteps: [state.microSteps] }
  }
  const done = state.window.microBatches
  const window = await wholeWindow(run, merging)
  const rest = window.slice(done)
  const first = rest.at(0)
  if (!first) return { batches: [], microSteps: [] }
  const limit = largestGroup(first.batch, state.merge.belowTokens, merging)
  let size = 1
  while (size < Math.min(rest.length, limit) && rest[size].key === first.key) size++
  const group = rest.slice(0, size)
  return {
    batches: group.map(({ batch }) => batch),
    microSteps: group.map(({ index }) => state.microSteps - done + index),
  }
}

/** The micro-batches of the window that is being run, kept while it is. */
export interface WindowCache<B> {
  readonly epoch: number
  readonly begin: number
  readonly members: readonly Member<B>[]
}

interface Member<B> {
  readonly batch: B
  readonly key: string
  /** Place in the window as the data have it. */
  readonly index: number
}

/** All micro-batches of the window, those of one shape together. */
async function wholeWindow<B>(run: Run<B>, merging: Merging<B>): Promise<readonly Member<B>[]> {
  const { train, windowCache } = run
  const { epoch, position, window } = run.state
  const begin = position - window.microBatches
  if (windowCache?.epoch === epoch && windowCache.begin === begin) return windowCache.members
  const byKey = new Map<string, Member<B>[]>()
  for (let index = 0; index < windowSize(run); index++) {
    const batch = await train.get(epoch, begin + index)
    const key = merging.key(batch)
    byKey.set(key, [...(byKey.get(key) ?? []), { batch, key, index }])
  }
  const members = [...byKey.values()].flat()
  run.windowCache = { epoch, begin, members }
  return members
}

/** How many micro-batches like this one stay below what the memory was too small for. */
function largestGroup<B>(batch: B, belowTokens: number | null, merging: Merging<B>): number {
  return belowTokens === null ? Infinity : Math.max(1, Math.ceil(belowTokens / merging.tokens(batch)) - 1)
}

/** Runs a group; null if the device's memory was too small for it, in which case the window knows and nothing has changed. */
export async function accumulate<B>(run: Run<B>, group: MicroBatches<B>): Promise<AccumulateResult | null> {
  const { state, step } = run
  const { batches, microSteps } = group
  const lossScale = lossScaleOf(run)
  const at = microSteps.map((microStep) => ({ microStep, lossScale }))
  if (!step.merging || batches.length === 1) return step.accumulate(batches[0], at[0])
  const { merging } = step
  try {
    return await merging.accumulate(batches, at)
  } catch (error) {
    if (!merging.isOutOfMemory(error)) throw error
    // Half as many the next time: each try costs a compilation.
    state.merge.belowTokens = (Math.floor(batches.length / 2) + 1) * merging.tokens(batches[0])
    const message = `step ${state.startStep + state.step}: ${batches.length} micro-batches as one are too large for the memory; fewer are merged from now on`
    run.events.emit({ type: 'warning', message })
    return null
  }
}
