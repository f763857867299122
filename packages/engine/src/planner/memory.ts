import { lifetimes, shareInPlace, type Lifetime } from './liveness.js'
import { bufferOf, type BufferId, type MemoryPlan, type PlanRequest } from './plan.js'

/** Device allocations, vector loads and cuBLASLt want this alignment. */
export const ALIGNMENT = 256

const align = (bytes: number): number => Math.ceil(Math.max(bytes, 1) / ALIGNMENT) * ALIGNMENT

interface Block {
  readonly id: BufferId
  readonly bytes: number
  first: number
  last: number
  offset: number
}

/**
 * Gives every arena buffer a static offset: no two buffers that are alive at the same step overlap. The largest are
 * placed first, each at the lowest free offset (the greedy-by-size order of Pisarchyk and Lee, "Efficient Memory
 * Management for Deep Neural Net Inference", 2020).
 *
 * @param direct buffers computed straight into an external buffer, see `directDestinations`.
 */
export function planMemory(request: PlanRequest, direct: ReadonlyMap<BufferId, BufferId> = new Map()): MemoryPlan {
  const lives = lifetimes(request)
  const root = shareInPlace(request, lives, new Set(direct.keys()))
  const blocks = blocksOf(request, lives, root, direct)
  const placed: Block[] = []
  for (const block of [...blocks.values()].sort((a, b) => b.bytes - a.bytes || a.first - b.first || a.id - b.id)) {
    block.offset = lowestFree(block, placed)
    insertByOffset(placed, block)
  }
  const locations = new Map<BufferId, { offset: number } | { external: BufferId }>()
  for (const [buffer, external] of direct) locations.set(buffer, { external })
  let unsharedBytes = 0
  for (const [id, owner] of root) {
    const block = blocks.get(owner)
    if (!block || direct.has(id)) continue
    locations.set(id, { offset: block.offset })
    unsharedBytes += align(bufferOf(request, id).bytes)
  }
  return { arenaBytes: placed.reduce((end, b) => Math.max(end, b.offset + b.bytes), 0), locations, unsharedBytes }
}

/** One block per group of buffers that share storage, alive from the first to the last of them. */
function blocksOf(
  request: PlanRequest,
  lives: ReadonlyMap<BufferId, Lifetime>,
  root: ReadonlyMap<BufferId, BufferId>,
  direct: ReadonlyMap<BufferId, BufferId>,
): Map<BufferId, Block> {
  const blocks = new Map<BufferId, Block>()
  for (const [id, life] of lives) {
    const owner = root.get(id) ?? id
    const buffer = bufferOf(request, owner)
    if (buffer.place !== 'arena' || direct.has(id)) continue
    const block = blocks.get(owner)
    if (block) {
      block.first = Math.min(block.first, life.first)
      block.last = Math.max(block.last, life.last)
    } else {
      blocks.set(owner, { id: owner, bytes: align(buffer.bytes), ...life, offset: 0 })
    }
  }
  return blocks
}

/** The lowest offset at which the block meets none of those alive with it; `placed` is in the order of offsets. */
function lowestFree(block: Block, placed: readonly Block[]): number {
  let offset = 0
  for (const other of placed) {
    if (other.last < block.first || block.last < other.first) continue
    if (offset + block.bytes <= other.offset) break
    offset = Math.max(offset, other.offset + other.bytes)
  }
  return offset
}

function insertByOffset(placed: Block[], block: Block): void {
  let [low, high] = [0, placed.length]
  while (low < high) {
    const middle = (low + high) >> 1
    if (placed[middle].offset <= block.offset) low = middle + 1
    else high = middle
  }
  placed.splice(low, 0, block)
}
