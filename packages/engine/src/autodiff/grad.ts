import { EngineError } from '../errors.js'
import type { GraphNode, Value } from '../ir/graph.js'
import { formatType, isFloat } from '../ir/tensor-type.js'
import { add, full } from '../ops/elementwise.js'
import { Recomputation } from './checkpoint.js'

export interface GradOptions {
  /** Compute the intermediate values of every segment again instead of keeping them. */
  readonly checkpoint?: boolean
}

/**
 * Reverse-mode differentiation: emits the gradient of a scalar `loss` with respect to each value of `wrt` into the same
 * graph, in the order of `wrt`. A value that the loss does not depend on gets zeros.
 *
 * @throws EngineError if the loss is not a float scalar or a path to `wrt` goes through an op without a derivative.
 */
export function grad(loss: Value, wrt: readonly Value[], options: GradOptions = {}): Value[] {
  if (loss.shape.length !== 0 || !isFloat(loss.dtype)) {
    throw new EngineError(`grad: the loss must be a float scalar, got ${formatType(loss.type)}`)
  }
  const { graph } = loss
  const forward = [...graph.nodes]
  const active = reachableFrom(forward, wrt)
  const recomputation = options.checkpoint ? new Recomputation(forward) : null
  const cotangents = new Map<number, Value>([[loss.id, full(graph, loss.type, 1)]])
  const accumulate = (value: Value, cotangent: Value): void => {
    const known = cotangents.get(value.id)
    cotangents.set(value.id, known ? add(known, cotangent) : cotangent)
  }
  for (const node of forward.reverse()) {
    const dys = node.outputs.map((output) => cotangents.get(output.id) ?? null)
    if (!dys.some(Boolean) || !node.inputs.some((v) => active.has(v.id))) continue
    recomputation?.enter(node, dys)
    graph.scope(`backward/${node.scope}`, () => {
      pullBack(node, dys, active, recomputation).forEach((dx, i) => dx && accumulate(node.inputs[i], dx))
    })
  }
  return wrt.map((value) => cotangents.get(value.id) ?? full(graph, value.type, 0))
}

/** Ids of `wrt` and of everything computed from it. */
function reachableFrom(nodes: readonly GraphNode[], wrt: readonly Value[]): Set<number> {
  const active = new Set(wrt.map((v) => v.id))
  for (const node of nodes) {
    if (node.inputs.some((v) => active.has(v.id))) node.outputs.forEach((v) => active.add(v.id))
  }
  return active
}

function pullBack(
  node: GraphNode,
  cotangents: readonly (Value | null)[],
  active: ReadonlySet<number>,
  recomputation: Recomputation | null,
): readonly (Value | null)[] {
  const { vjp } = node.def
  if (typeof vjp !== 'function') {
    throw new EngineError(`grad: ${node.def.name} has no derivative: ${vjp.nonDifferentiable}`)
  }
  const current = (v: Value): Value => recomputation?.get(v) ?? v
  const needs = node.inputs.map((v) => active.has(v.id))
  const grads = vjp({
    inputs: node.inputs.map(current),
    outputs: node.outputs.map(current),
    attrs: node.attrs,
    cotangents,
    needs,
  })
  return grads.map((dx, i) => (needs[i] ? dx : null))
}
