import { resultsOf, type Program, type ValueId } from './program.js'
import type { TensorType } from './tensor-type.js'

/**
 * Drops nodes and inputs that no output or update needs, and numbers the remaining values in order of appearance.
 * States stay declared when they are updated. Common subexpressions stay: merging them would undo checkpointing.
 */
export function removeDeadNodes(program: Program): Program {
  const live = new Set<ValueId>(resultsOf(program))
  for (const node of [...program.nodes].reverse()) {
    if (node.outputs.some((id) => live.has(id))) node.inputs.forEach((id) => live.add(id))
  }
  const updated = new Set(program.updates.map((u) => u.state))
  const inputs = program.inputs.filter((i) => live.has(i.value) || (i.role === 'state' && updated.has(i.name)))
  const nodes = program.nodes.filter((node) => node.outputs.some((id) => live.has(id)))

  const ids = new Map<ValueId, ValueId>()
  const types: TensorType[] = []
  const define = (id: ValueId): ValueId => {
    const type = program.types[id]
    if (type !== undefined) types.push(type)
    ids.set(id, types.length - 1)
    return types.length - 1
  }
  const use = (id: ValueId): ValueId => ids.get(id) ?? -1
  return {
    name: program.name,
    inputs: inputs.map((i) => ({ ...i, value: define(i.value) })),
    nodes: nodes.map((n) => ({ ...n, inputs: n.inputs.map(use), outputs: n.outputs.map(define) })),
    updates: program.updates.map((u) => ({
      ...u,
      value: use(u.value),
      ...(u.index === undefined ? {} : { index: use(u.index) }),
    })),
    outputs: program.outputs.map((o) => ({ ...o, value: use(o.value) })),
    types,
  }
}
