import type { CudaStep } from './lower.js'

/** Weights that exist dequantized at a time: one that is multiplied with, and the next. */
const RING = 2
/** Events that the second stream takes turns with: more than are ever waited for. */
export const SIDE_EVENTS = 4

interface Pair {
  /** The step that dequantizes a weight, and the only one that reads it. */
  readonly filled: number
  readonly read: number
}

/**
 * Moves the dequantization of a weight to a second stream and to the moment at which the weight before the previous one
 * has been used, so that it runs beside the kernels that come before its product. The memory planner sees the new order,
 * so nothing else lies where a weight is being written.
 */
export function overlapDequantization(steps: readonly CudaStep[]): CudaStep[] {
  const pairs = pairsOf(steps)
  const moved = new Map(pairs.map((pair, i) => [pair.filled, i]))
  const readers = new Map(pairs.map((pair, i) => [pair.read, i]))
  const result: CudaStep[] = []
  const fill = (i: number): void => {
    const pair = pairs[i]
    if (pair) result.push({ ...steps[pair.filled], side: i % SIDE_EVENTS })
  }
  steps.forEach((step, at) => {
    const filled = moved.get(at)
    if (filled === 0) for (let i = 0; i < RING; i++) fill(i)
    if (filled !== undefined) return
    const read = readers.get(at)
    if (read === undefined) {
      result.push(step)
      return
    }
    result.push({ ...step, waitsFor: read % SIDE_EVENTS })
    fill(read + RING)
  })
  return result
}

function pairsOf(steps: readonly CudaStep[]): Pair[] {
  const readers = new Map<number, number[]>()
  steps.forEach(({ reads }, at) => reads.forEach((id) => readers.set(id, [...(readers.get(id) ?? []), at])))
  return steps.flatMap(({ command, writes: [to] }, filled) => {
    if (command.kind !== 'launch' || command.entry !== 'dequantize') return []
    const [read, ...more] = readers.get(to) ?? []
    return read === undefined || more.length > 0 ? [] : [{ filled, read }]
  })
}
