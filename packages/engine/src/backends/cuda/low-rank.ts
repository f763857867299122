import type { Program, ValueId } from '../../ir/program.js'
import { sizeOf } from '../../ir/tensor-type.js'
import type { FusedNode } from './fuse.js'

/** Rows up to which a weight is read by the matrix-vector kernels; for more rows the tensor cores are worth it. */
export const MATVEC_ROWS = 8

/** Wider products are no adapter's. */
const MAX_RANK = 256

/** A second product that is added to a product's result: `alpha x weightᵀ`. */
export interface LowRank {
  readonly x: ValueId
  readonly weight: ValueId
  readonly alpha: number
}

/**
 * Where few rows meet a weight with an adapter, one kernel computes both products: a launch costs as much as the adapter's
 * arithmetic. The base product moves to where the adapter's second product was.
 */
export function joinLowRank(program: Program, nodes: readonly FusedNode[]): FusedNode[] {
  const made = new Map<ValueId, number>()
  const uses = new Map<ValueId, number>()
  const use = (id: ValueId): void => void uses.set(id, (uses.get(id) ?? 0) + 1)
  nodes.forEach((node, at) => {
    node.outputs.forEach((id) => made.set(id, at))
    node.inputs.forEach(use)
    if (node.accumulate !== null) use(node.accumulate)
  })
  program.outputs.forEach(({ value }) => use(value))
  program.updates.forEach(({ value }) => use(value))
  const isFewRows = ({ op, attrs, inputs: [x] }: FusedNode): boolean => {
    const { shape } = program.types[x]
    return op === 'linear' && attrs.transposeWeight === true && sizeOf(shape) <= MATVEC_ROWS * shape[shape.length - 1]
  }
  const result: (FusedNode | null)[] = [...nodes]
  nodes.forEach((node, at) => {
    const { accumulate } = node
    if (accumulate === null || uses.get(accumulate) !== 1 || !isFewRows(node)) return
    const from = made.get(accumulate) ?? -1
    const base = result[from]
    if (!base || !isFewRows(base) || base.lowRank !== null || base.outputs.length !== 1) return
    if (program.types[base.outputs[0]].dtype !== program.types[node.inputs[0]].dtype) return
    const [x, weight] = node.inputs
    const { dtype, shape } = program.types[weight]
    if (dtype === 'nf4' || shape[1] > MAX_RANK) return
    const lowRank = { x, weight, alpha: Number(node.attrs.alpha) * node.factor }
    result[at] = { ...base, outputs: node.outputs, scope: node.scope, lowRank }
    result[from] = null
  })
  return result.filter((node) => node !== null)
}
