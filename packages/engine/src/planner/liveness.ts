import type { BufferId, Destination, PlanRequest } from './plan.js'
import { bufferOf } from './plan.js'

/** The steps between which a buffer's memory is taken, both included. A fed buffer begins at -1. */
export interface Lifetime {
  readonly first: number
  readonly last: number
}

/** The lifetime of every buffer that a step, the feed or the results touch. */
export function lifetimes(request: PlanRequest): Map<BufferId, Lifetime> {
  const result = new Map<BufferId, Lifetime>()
  const touch = (id: BufferId, at: number): void => {
    const known = result.get(id)
    result.set(
      id,
      known ? { first: Math.min(known.first, at), last: Math.max(known.last, at) } : { first: at, last: at },
    )
  }
  request.fed.forEach((id) => touch(id, -1))
  request.steps.forEach((step, at) => [...step.reads, ...step.writes].forEach((id) => touch(id, at)))
  request.results.forEach((id) => touch(id, request.steps.length))
  return result
}

const mayOverwrite = (request: PlanRequest, at: number, written: BufferId, read: BufferId): boolean =>
  request.steps[at]?.inPlace.some(([w, r]) => w === written && r === read) ?? false

/**
 * Which buffers can be computed straight into their external destination: those written at one point, after the last
 * read of the destination's old value (or over it, where the step may). The others need a copy after the last step.
 */
export function directDestinations(request: PlanRequest, wanted: readonly Destination[]): Map<BufferId, BufferId> {
  const lives = lifetimes(request)
  const lastRead = new Map<BufferId, number>()
  request.steps.forEach((step, at) => step.reads.forEach((id) => lastRead.set(id, at)))
  const direct = new Map<BufferId, BufferId>()
  const taken = new Set<BufferId>()
  for (const { buffer, external } of wanted) {
    const [from, to] = [bufferOf(request, buffer), bufferOf(request, external)]
    const written = lives.get(buffer)?.first ?? -1
    const read = lastRead.get(external) ?? -1
    const clear = read < written || (read === written && mayOverwrite(request, written, buffer, external))
    const fits = from.place === 'arena' && from.bytes === to.bytes && written >= 0
    if (!fits || !clear || direct.has(buffer) || taken.has(external)) continue
    direct.set(buffer, external)
    taken.add(external)
  }
  return direct
}

/**
 * Merges buffers that may share storage: a step's result takes over the memory of an operand that nothing needs
 * afterwards. Returns the representative of each arena buffer.
 */
export function shareInPlace(
  request: PlanRequest,
  lives: ReadonlyMap<BufferId, Lifetime>,
  excluded: ReadonlySet<BufferId>,
): Map<BufferId, BufferId> {
  const root = new Map<BufferId, BufferId>()
  const last = new Map<BufferId, number>()
  for (const [id, life] of lives) {
    root.set(id, id)
    last.set(id, life.last)
  }
  const usable = (id: BufferId): boolean => bufferOf(request, id).place === 'arena' && !excluded.has(id)
  request.steps.forEach((step, at) => {
    for (const [written, read] of step.inPlace) {
      const owner = root.get(read)
      if (owner === undefined || !usable(written) || !usable(read) || root.get(written) !== written) continue
      const fresh = lives.get(written)?.first === at
      const sizesFit = bufferOf(request, written).bytes <= bufferOf(request, owner).bytes
      if (
        !fresh ||
        !sizesFit ||
        last.get(owner) !== at ||
        step.reads.filter((id) => root.get(id) === owner).length !== 1
      )
        continue
      root.set(written, owner)
      last.set(owner, lives.get(written)?.last ?? at)
    }
  })
  return root
}
