import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { directDestinations, lifetimes } from './liveness.js'
import { ALIGNMENT, planMemory } from './memory.js'
import { printPlan, type PlanBuffer, type PlanRequest, type PlanStep } from './plan.js'

const arena = (id: number, bytes: number): PlanBuffer => ({ id, bytes, label: `b${id}`, place: 'arena' })
const external = (id: number, bytes: number): PlanBuffer => ({ id, bytes, label: `s${id}`, place: 'external' })
const step = (writes: number[], reads: number[], inPlace: [number, number][] = []): PlanStep => ({
  label: 'op',
  reads,
  writes,
  inPlace,
})

/** Random straight-line programs: step i writes buffer i and reads some earlier ones. */
const requests = fc
  .array(
    fc.record({
      bytes: fc.integer({ min: 1, max: 5000 }),
      reads: fc.array(fc.nat(), { maxLength: 3 }),
      over: fc.boolean(),
    }),
    {
      minLength: 1,
      maxLength: 40,
    },
  )
  .map((items): PlanRequest => {
    const steps = items.map(({ reads, over }, i) => {
      const ids = i === 0 ? [] : [...new Set(reads.map((r) => r % i))]
      return step([i], ids, over && ids.length > 0 ? [[i, ids[0]]] : [])
    })
    return { steps, buffers: items.map(({ bytes }, i) => arena(i, bytes)), fed: [], results: [items.length - 1] }
  })

/** Executes a plan on an arena that remembers which buffer wrote each cell last. */
function expectNoClobbering(request: PlanRequest): void {
  const plan = planMemory(request)
  const offsetOf = (id: number): number => {
    const location = plan.locations.get(id)
    if (!location || !('offset' in location)) throw new Error(`buffer ${id} has no offset`)
    return location.offset
  }
  const owner = new Map<number, number>()
  const cells = (id: number): number[] => {
    const start = offsetOf(id) / ALIGNMENT
    return Array.from({ length: Math.ceil(request.buffers[id].bytes / ALIGNMENT) }, (_, i) => start + i)
  }
  const intact = (id: number): boolean => cells(id).every((cell) => owner.get(cell) === id)
  for (const s of request.steps) {
    expect(s.reads.every(intact)).toBe(true)
    for (const id of s.writes) {
      expect(offsetOf(id) + request.buffers[id].bytes).toBeLessThanOrEqual(plan.arenaBytes)
      cells(id).forEach((cell) => owner.set(cell, id))
    }
    const shared = new Set(s.inPlace.map(([, read]) => read))
    const separate = s.reads.filter((id) => !shared.has(id))
    expect(separate.every(intact)).toBe(true)
  }
  expect(request.results.every(intact)).toBe(true)
}

describe('planMemory', () => {
  test('never lets a buffer overwrite one that is still needed', () => {
    fc.assert(fc.property(requests, expectNoClobbering), { numRuns: 300 })
  })

  test('never needs more than all buffers together', () => {
    fc.assert(
      fc.property(requests, (request) => {
        const plan = planMemory(request)
        expect(plan.arenaBytes).toBeLessThanOrEqual(plan.unsharedBytes)
      }),
    )
  })

  test('a chain of in-place steps uses the memory of one buffer', () => {
    const buffers = [0, 1, 2, 3].map((id) => arena(id, 1024))
    const steps = [step([0], []), step([1], [0], [[1, 0]]), step([2], [1], [[2, 1]]), step([3], [2], [[3, 2]])]
    expect(planMemory({ steps, buffers, fed: [], results: [3] }).arenaBytes).toBe(1024)
  })

  test('an operand that is read again later is not overwritten', () => {
    const buffers = [0, 1, 2].map((id) => arena(id, 256))
    const steps = [step([0], []), step([1], [0], [[1, 0]]), step([2], [0, 1])]
    expect(planMemory({ steps, buffers, fed: [], results: [2] }).arenaBytes).toBeGreaterThanOrEqual(512)
  })

  test('fed buffers are alive from the start and results to the end', () => {
    const request = {
      steps: [step([1], [0]), step([2], [1])],
      buffers: [0, 1, 2].map((i) => arena(i, 8)),
      fed: [0],
      results: [0],
    }
    expect(lifetimes(request).get(0)).toEqual({ first: -1, last: 2 })
  })
})

describe('directDestinations', () => {
  const buffers = [external(0, 64), arena(1, 64), arena(2, 64)]

  test('a state is overwritten by the step that reads it last, where that step may', () => {
    const request = { steps: [step([1], [0], [[1, 0]])], buffers, fed: [], results: [] }
    expect(directDestinations(request, [{ buffer: 1, external: 0 }])).toEqual(new Map([[1, 0]]))
  })

  test('a state that is read after its new value exists needs a copy', () => {
    const request = { steps: [step([1], []), step([2], [0])], buffers, fed: [], results: [] }
    expect(directDestinations(request, [{ buffer: 1, external: 0 }]).size).toBe(0)
  })

  test('a step that may not overwrite its operand needs a copy', () => {
    const request = { steps: [step([1], [0])], buffers, fed: [], results: [] }
    expect(directDestinations(request, [{ buffer: 1, external: 0 }]).size).toBe(0)
  })

  test('one value cannot live in two states', () => {
    const two = [external(0, 64), external(1, 64), arena(2, 64)]
    const request = { steps: [step([2], [])], buffers: two, fed: [], results: [] }
    const wanted = [
      { buffer: 2, external: 0 },
      { buffer: 2, external: 1 },
    ]
    expect(directDestinations(request, wanted)).toEqual(new Map([[2, 0]]))
  })
})

test('a plan prints one line per step with offsets', () => {
  const request: PlanRequest = {
    steps: [step([1], [0]), step([2], [1], [[2, 1]])],
    buffers: [external(0, 512), arena(1, 512), arena(2, 512)],
    fed: [],
    results: [2],
  }
  expect(printPlan(request, planMemory(request))).toBe(
    'arena 512 bytes (1024 unshared)\n0 op  b1@0 <- s0\n1 op  b2@0 <- b1@0',
  )
})
