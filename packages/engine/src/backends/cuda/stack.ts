import type { Program, ValueId } from '../../ir/program.js'
import { byteSize, sizeOf, type TensorType } from '../../ir/tensor-type.js'
import type { FusedNode } from './fuse.js'

/** Where a value lies in memory that it shares with its siblings. */
export interface Place {
  /** Values of one stack share a buffer. */
  readonly stack: string
  readonly bytes: number
  readonly offset: number
  /** Elements from one row to the next; null where rows follow each other. */
  readonly pitch: number | null
}

export interface Stacked {
  readonly nodes: FusedNode[]
  readonly places: ReadonlyMap<ValueId, Place>
}

/** Adapters' ranks are small; products of wider weights gain nothing from sharing. */
const MAX_RANK = 256
/** Slices begin at multiples of 16 bytes. */
const RANK_STEP = 8

/**
 * Adapters of projections that read the same rows (q, k and v, or gate and up) share one product with their stacked A,
 * and their input's gradient is one product with it too. The A lie one below the other, the narrow results side by side.
 */
export function stackAdapters(program: Program, nodes: readonly FusedNode[]): Stacked {
  return new Stacking(program, nodes).run()
}

interface Use {
  readonly at: number
  readonly how: 'input' | 'accumulate' | 'lowRank'
}

class Stacking {
  private readonly nodes: (FusedNode | null)[]
  private readonly made = new Map<ValueId, number>()
  private readonly uses = new Map<ValueId, Use[]>()
  private readonly results: ReadonlySet<ValueId>
  private readonly places = new Map<ValueId, Place>()
  /** The stacks of weights, by their values. */
  private readonly weights = new Map<string, readonly ValueId[]>()

  constructor(
    private readonly program: Program,
    nodes: readonly FusedNode[],
  ) {
    this.nodes = [...nodes]
    this.results = new Set([...program.outputs, ...program.updates].map(({ value }) => value))
    const use = (id: ValueId, entry: Use): void => void this.uses.set(id, [...this.usesOf(id), entry])
    nodes.forEach((node, at) => {
      node.outputs.forEach((id) => this.made.set(id, at))
      node.inputs.forEach((id) => use(id, { at, how: 'input' }))
      if (node.accumulate !== null) use(node.accumulate, { at, how: 'accumulate' })
      if (node.lowRank) [node.lowRank.x, node.lowRank.weight].forEach((id) => use(id, { at, how: 'lowRank' }))
    })
  }

  run(): Stacked {
    for (const group of this.projections().values()) this.stackForward(group)
    for (const stack of this.weights.values()) this.stackBackward(stack)
    return { nodes: this.nodes.filter((node) => node !== null), places: this.places }
  }

  private usesOf(id: ValueId): readonly Use[] {
    return this.uses.get(id) ?? []
  }

  private type(id: ValueId): TensorType {
    return this.program.types[id]
  }

  private rankOf(weight: ValueId): number {
    return this.type(weight).shape[0]
  }

  /** First adapter products by the rows that they read. */
  private projections(): Map<string, number[]> {
    const groups = new Map<string, number[]>()
    this.nodes.forEach((node, at) => {
      if (!node || !this.isProjection(node)) return
      const key = [node.inputs[0], Number(node.attrs.alpha) * node.factor].join(' ')
      groups.set(key, [...(groups.get(key) ?? []), at])
    })
    return groups
  }

  private isProjection({ op, attrs, inputs, outputs, accumulate, lowRank }: FusedNode): boolean {
    if (op !== 'linear' || attrs.transposeWeight !== true || accumulate !== null || lowRank) return false
    const [x, weight] = inputs
    return this.isAdapter(weight) && this.type(weight).dtype === this.type(x).dtype && this.mayLieBeside(outputs[0])
  }

  /** A trained matrix of low rank in the dtype of the activations: cast before everything else, so it may lie anywhere. */
  private isAdapter(id: ValueId): boolean {
    const cast = this.nodes[this.made.get(id) ?? -1]
    const isBound =
      cast?.op === 'cast' && this.program.inputs.some((i) => i.role !== 'input' && i.value === cast.inputs[0])
    const rank = this.rankOf(id)
    return isBound && rank <= MAX_RANK && rank % RANK_STEP === 0 && !this.results.has(id)
  }

  /** Whether all that reads a value can step over its siblings: products, and views of the same rows. */
  private mayLieBeside(id: ValueId): boolean {
    const width = this.type(id).shape.slice(-1)[0]
    if (width % RANK_STEP !== 0 || this.results.has(id)) return false
    return this.usesOf(id).every(({ at, how }) => {
      const node = this.nodes[at]
      if (how === 'accumulate' || !node) return false
      if (node.op === 'reshape') {
        const [view] = node.outputs
        return this.type(view).shape.slice(-1)[0] === width && this.mayLieBeside(view)
      }
      return how === 'lowRank' || node.op === 'matmul' || (node.op === 'linear' && node.inputs[0] === id)
    })
  }

  private stackForward(group: readonly number[]): void {
    const members = group.flatMap((at) => this.nodes[at] ?? [])
    const weights = members.map(({ inputs }) => inputs[1])
    const key = weights.join(' ')
    const isTaken = !this.weights.has(key) && weights.some((id) => this.places.has(id))
    if (members.length < 2 || new Set(weights).size < members.length || isTaken) return
    this.weights.set(key, weights)
    this.placeRows(weights)
    this.placeColumns(members.map(({ outputs }) => outputs[0]))
    const [first] = group
    group.forEach((at) => (this.nodes[at] = null))
    this.nodes[first] = {
      ...members[0],
      outputs: members.flatMap(({ outputs }) => outputs),
      stackedRows: this.total(weights),
    }
  }

  private total(weights: readonly ValueId[]): number {
    return weights.reduce((sum, id) => sum + this.rankOf(id), 0)
  }

  private placeRows(ids: readonly ValueId[]): void {
    const bytes = ids.reduce((sum, id) => sum + byteSize(this.type(id)), 0)
    let offset = 0
    for (const id of ids) {
      this.places.set(id, { stack: `rows ${ids[0]}`, bytes, offset, pitch: null })
      offset += byteSize(this.type(id))
    }
  }

  private placeColumns(ids: readonly ValueId[]): void {
    const bytes = ids.reduce((sum, id) => sum + byteSize(this.type(id)), 0)
    const widths = ids.map((id) => this.type(id).shape.slice(-1)[0])
    const pitch = widths.reduce((sum, width) => sum + width, 0)
    const element = byteSize(this.type(ids[0])) / sizeOf(this.type(ids[0]).shape)
    let column = 0
    ids.forEach((id, i) => {
      this.places.set(id, { stack: `columns ${ids[0]}`, bytes, offset: column * element, pitch })
      column += widths[i]
    })
  }

  /** One product with the stacked weights in place of the last of the products that it replaces. */
  private stackBackward(weights: readonly ValueId[]): void {
    const found = weights.map((id) => this.gradientsThrough(id))
    if (found.some((nodes) => nodes.length !== 1)) return
    const order = found.flat().sort((a, b) => a - b)
    const last = order[order.length - 1]
    const nodes = found.flatMap(([at]) => this.nodes[at] ?? [])
    const narrow = nodes.map(({ inputs }) => inputs[0])
    const factors = new Set(nodes.map(({ attrs, factor }) => Number(attrs.alpha) * factor))
    const distinct = new Set(narrow).size === narrow.length && factors.size === 1
    if (!distinct || order.slice(0, -1).some((at) => !this.flowsInto(at, last))) return
    this.placeColumns(narrow)
    for (const at of order.slice(0, -1)) this.skip(at)
    const node = this.nodes[last]
    if (node) this.nodes[last] = { ...node, inputs: [narrow[0], weights[0]], stackedRows: this.total(weights) }
  }

  /** Products of a narrow gradient with the weight, as the gradient of what the weight was multiplied with. */
  private gradientsThrough(weight: ValueId): number[] {
    return this.usesOf(weight).flatMap(({ at }) => {
      const node = this.nodes[at]
      if (node?.op !== 'linear' || node.attrs.transposeWeight !== false || node.inputs[1] !== weight) return []
      const source = this.nodes[this.made.get(node.inputs[0]) ?? -1]
      const isNarrow = source?.op === 'linear' && source.attrs.transposeWeight === false && source.accumulate === null
      return isNarrow && this.mayLieBeside(node.inputs[0]) ? [at] : []
    })
  }

  /** Whether the result of one node is only ever added to what the other computes. */
  private flowsInto(from: number, to: number): boolean {
    for (let at = from; at < to;) {
      const [id] = this.nodes[at]?.outputs ?? []
      const uses = this.usesOf(id)
      if (uses.length !== 1 || uses[0].how !== 'accumulate' || this.results.has(id)) return false
      at = uses[0].at
      if (at === to) return true
    }
    return false
  }

  /** Takes a node out of the sum that it is part of. */
  private skip(at: number): void {
    const node = this.nodes[at]
    const [use] = this.usesOf(node?.outputs[0] ?? -1)
    const user = this.nodes[use.at]
    if (!node || !user) return
    this.nodes[use.at] = { ...user, accumulate: node.accumulate }
    this.nodes[at] = null
  }
}
