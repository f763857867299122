import type { OnnxNode, OnnxTensor } from './onnx-proto.js'

export interface OrderOptions {
  /** Graph inputs that are frozen weights. */
  readonly constants: ReadonlySet<string>
  readonly initializers: readonly OnnxTensor[]
  readonly outputs: readonly string[]
  readonly updates: readonly string[]
}

/**
 * Puts the nodes into the order that keeps ONNX Runtime's memory low. It executes a reverse depth-first search from the
 * leaves: leaves run last-emitted-first, and of a node's producers the highest-numbered one runs first. Hence
 * - dead nodes are dropped, for the runtime would execute them;
 * - what depends on frozen weights alone comes first, and so runs just before its use instead of before the activations;
 * - what only the outputs need (the loss) comes last, and so runs before the backward pass and frees the logits.
 */
export function orderNodes(nodes: readonly OnnxNode[], o: OrderOptions): OnnxNode[] {
  const live = dropDead(nodes, [...o.outputs, ...o.updates])
  const known = new Set([...o.constants, ...o.initializers.map((t) => t.name)])
  const [early, rest] = partition(live, (node) => {
    const independent = node.inputs.every((name) => name === '' || known.has(name))
    if (independent) node.outputs.forEach((name) => known.add(name))
    return independent
  })
  const late = onlyForOutputs(rest, o.updates)
  const [middle, last] = partition(rest, (node) => !late.has(node))
  return [...early, ...middle, ...last]
}

function dropDead(nodes: readonly OnnxNode[], results: readonly string[]): OnnxNode[] {
  const needed = new Set(results)
  const live = [...nodes].reverse().filter((node) => {
    const used = node.outputs.some((name) => needed.has(name))
    if (used) node.inputs.forEach((name) => needed.add(name))
    return used
  })
  return live.reverse()
}

/** Nodes from which no update can be reached. */
function onlyForOutputs(nodes: readonly OnnxNode[], updates: readonly string[]): Set<OnnxNode> {
  const forUpdates = new Set(updates)
  const late = new Set<OnnxNode>()
  for (const node of [...nodes].reverse()) {
    if (node.outputs.some((name) => forUpdates.has(name))) node.inputs.forEach((name) => forUpdates.add(name))
    else late.add(node)
  }
  return late
}

function partition<T>(items: readonly T[], test: (item: T) => boolean): [T[], T[]] {
  const [yes, no]: [T[], T[]] = [[], []]
  for (const item of items) (test(item) ? yes : no).push(item)
  return [yes, no]
}
