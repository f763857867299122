import { internal } from '../errors.js'

export type BufferId = number

/** Where a buffer lives: in the plan's arena, or in memory that somebody else owns (weights, states). */
export type BufferPlace = 'arena' | 'external'

export interface PlanBuffer {
  readonly id: BufferId
  readonly bytes: number
  readonly label: string
  readonly place: BufferPlace
}

/** What the planner needs to know of a step: the buffers it touches. Steps run one after the other. */
export interface PlanStep {
  readonly label: string
  readonly reads: readonly BufferId[]
  readonly writes: readonly BufferId[]
  /** Pairs [written, read]: the step may write the first over the second, element by element. */
  readonly inPlace: readonly (readonly [BufferId, BufferId])[]
}

/** A buffer that must end up in an external one: what a state becomes after the steps. */
export interface Destination {
  readonly buffer: BufferId
  readonly external: BufferId
}

export interface PlanRequest {
  readonly steps: readonly PlanStep[]
  readonly buffers: readonly PlanBuffer[]
  /** Written before the first step: what a run is fed. */
  readonly fed: readonly BufferId[]
  /** Read after the last step: what a run returns. */
  readonly results: readonly BufferId[]
}

/** Where every buffer is during the steps. */
export interface MemoryPlan {
  readonly arenaBytes: number
  /** The arena offset of a buffer, or the external buffer whose memory it uses. */
  readonly locations: ReadonlyMap<BufferId, { readonly offset: number } | { readonly external: BufferId }>
  /** Sum of all arena buffers, had none shared memory. */
  readonly unsharedBytes: number
}

export function bufferOf(request: Pick<PlanRequest, 'buffers'>, id: BufferId): PlanBuffer {
  const buffer = request.buffers[id]
  if (buffer?.id !== id) throw internal(`plan: buffer ${id} is not at its index`)
  return buffer
}

/**
 * The plan as text: one line per step with the place of each buffer.
 *
 * ```text
 * arena 1536 bytes (2048 unshared)
 * 0 add  y@512 <- x@0 w
 * ```
 */
export function printPlan(request: PlanRequest, plan: MemoryPlan): string {
  const name = (id: BufferId): string => {
    const { label, place } = bufferOf(request, id)
    const location = plan.locations.get(id)
    if (place === 'external' || !location) return label
    return 'offset' in location
      ? `${label}@${location.offset}`
      : `${label}=${bufferOf(request, location.external).label}`
  }
  const lines = request.steps.map(
    (step, i) => `${i} ${step.label}  ${step.writes.map(name).join(' ')} <- ${step.reads.map(name).join(' ')}`,
  )
  return [`arena ${plan.arenaBytes} bytes (${plan.unsharedBytes} unshared)`, ...lines].join('\n')
}
