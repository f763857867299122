import type { GraphNode, Value } from '../ir/graph.js'
import { barrier } from '../ops/elementwise.js'

/**
 * Activation checkpointing (Chen et al. 2016): when the backward pass enters a segment, the segment's forward nodes are
 * emitted a second time, and derivative rules read the copies. Only values that cross the segment's border are kept from
 * the forward pass. A barrier on the incoming cotangent keeps executors from running the copies during the forward pass,
 * and from merging them with the originals.
 */
export class Recomputation {
  private readonly copies = new Map<number, Value>()
  private readonly segments = new Map<number, GraphNode[]>()
  private readonly entered = new Set<number>()

  constructor(forward: readonly GraphNode[]) {
    for (const node of forward) {
      if (node.segment === null) continue
      const nodes = this.segments.get(node.segment)
      if (nodes) nodes.push(node)
      else this.segments.set(node.segment, [node])
    }
  }

  /** The recomputed value standing for a value of an entered segment. */
  get(value: Value): Value | undefined {
    return this.copies.get(value.id)
  }

  /** Called before a node's derivative is emitted; emits its whole segment again the first time. */
  enter(node: GraphNode, cotangents: readonly (Value | null)[]): void {
    const { segment } = node
    const after = cotangents.find(Boolean)
    if (segment === null || !after || this.entered.has(segment)) return
    this.entered.add(segment)
    const nodes = this.segments.get(segment) ?? []
    const inside = new Set(nodes.flatMap((n) => n.outputs.map((v) => v.id)))
    const borders = new Map<number, Value>()
    const input = (v: Value): Value => {
      if (inside.has(v.id)) return this.copies.get(v.id) ?? v
      if (!v.graph.producerOf(v)) return v
      const held = borders.get(v.id) ?? barrier(v, after)
      borders.set(v.id, held)
      return held
    }
    for (const original of nodes) {
      const { graph } = after
      const outputs = graph.scope(`recompute/${original.scope}`, () =>
        graph.apply(original.def, original.inputs.map(input), original.attrs),
      )
      original.outputs.forEach((v, i) => this.copies.set(v.id, outputs[i]))
    }
    // Derivative rules also read the segment's inputs; they get the held values.
    for (const [id, held] of borders) this.copies.set(id, held)
  }
}
