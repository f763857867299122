import type { Program, ProgramNode, ValueId } from '../../ir/program.js'
import { resultsOf } from '../../ir/program.js'
import { sameShape, sameType } from '../../ir/tensor-type.js'
import { joinLowRank, type LowRank } from './low-rank.js'

/** A node after fusion: a product or a norm's backward may add a value to its result, and scale the product. */
export interface FusedNode extends ProgramNode {
  readonly accumulate: ValueId | null
  readonly factor: number
  /** The cotangent of every row's loss, where linearCrossEntropy also gives the gradient of its rows (a third output). */
  readonly cotangent: number | null
  /** A product of an adapter that the same kernel adds (linear only). */
  readonly lowRank: LowRank | null
  /** Rows of the stacked weight of which the node's weight is the first part; null where it is whole (linear only). */
  readonly stackedRows: number | null
}

const UNFUSED = { accumulate: null, factor: 1, cotangent: null, lowRank: null, stackedRows: null } as const

const isProduct = (op: string): boolean => op === 'linear' || op === 'matmul'

/** A run of nodes whose last output is the sum of all their results; the first may still take an addend. */
interface Chain {
  /** -1 where the first node has an addend already. */
  readonly head: number
  readonly first: number
}

/**
 * Folds `add`, `cast` to float32 and `scale` into the product (or rmsNormBackward) that computes their operand, so that
 * adapters accumulate into the base product's output, residual branches join without a pass of their own, and gradients
 * accumulate into float32 states. Sums are reassociated where the addend exists before the product starts.
 */
export function fuse(program: Program): FusedNode[] {
  return joinLowRank(program, joinLosses(program, new Fusion(program).run()))
}

class Fusion {
  private readonly nodes: (FusedNode | null)[]
  private readonly uses = new Map<ValueId, number>()
  /** The node that finishes a value; -1 for program inputs. */
  private readonly made = new Map<ValueId, number>()
  private readonly chains = new Map<ValueId, Chain>()

  constructor(private readonly program: Program) {
    this.nodes = program.nodes.map((node) => ({ ...node, ...UNFUSED }))
    const count = (id: ValueId): void => void this.uses.set(id, (this.uses.get(id) ?? 0) + 1)
    program.nodes.forEach((node) => node.inputs.forEach(count))
    resultsOf(program).forEach(count)
    program.inputs.forEach((i) => this.made.set(i.value, -1))
  }

  run(): FusedNode[] {
    this.program.nodes.forEach((node, at) => this.visit(node, at))
    return this.nodes.filter((node) => node !== null)
  }

  private visit(node: ProgramNode, at: number): void {
    node.outputs.forEach((id) => this.made.set(id, at))
    const [out] = node.outputs
    if (isProduct(node.op) || node.op === 'rmsNormBackward') this.chains.set(out, { head: at, first: at })
    else if (node.op === 'add') this.foldAdd(node, at)
    else if (node.op === 'cast' && this.program.types[out].dtype === 'f32') this.foldInto(node, at, (n) => n)
    else if (node.op === 'scale' && node.attrs.offset === 0) {
      const factor = Number(node.attrs.factor)
      this.foldInto(node, at, (n) => ({ ...n, factor: n.factor * factor }))
    }
  }

  private isSingle(id: ValueId): boolean {
    return this.uses.get(id) === 1
  }

  /** A cast or scale of a lone product becomes part of it. */
  private foldInto(node: ProgramNode, at: number, change: (n: FusedNode) => FusedNode): void {
    const [x] = node.inputs
    const made = this.made.get(x) ?? -1
    const producer = made >= 0 ? this.nodes[made] : null
    if (producer?.accumulate !== null || !isProduct(producer.op) || !this.isSingle(x)) return
    this.nodes[made] = { ...change(producer), outputs: node.outputs }
    this.nodes[at] = null
    this.made.set(node.outputs[0], made)
    this.chains.set(node.outputs[0], { head: made, first: made })
  }

  private foldAdd(node: ProgramNode, at: number): void {
    const [a, b] = node.inputs
    const type = (id: ValueId) => this.program.types[id]
    if (a === b || !sameType(type(a), type(b)) || !sameShape(type(a).shape, type(node.outputs[0]).shape)) return
    const options = [
      [a, b],
      [b, a],
    ].filter(([addend, sum]) => this.canTake(sum, addend))
    // The later product takes the earlier value, so that nothing waits.
    const [best] = options.sort(([, x], [, y]) => (this.chains.get(y)?.first ?? 0) - (this.chains.get(x)?.first ?? 0))
    if (!best) return
    const [addend, sum] = best
    const head = this.chains.get(sum)?.head ?? -1
    const last = this.made.get(sum) ?? -1
    const chainOfAddend = this.chains.get(addend)
    const headNode = this.nodes[head]
    if (!headNode) return
    this.nodes[head] = { ...headNode, accumulate: addend }
    const lastNode = this.nodes[last]
    if (!lastNode) return
    this.nodes[last] = { ...lastNode, outputs: [node.outputs[0], ...lastNode.outputs.slice(1)] }
    this.nodes[at] = null
    this.made.set(node.outputs[0], last)
    const open = chainOfAddend && this.isSingle(addend) ? chainOfAddend : null
    this.chains.set(node.outputs[0], { head: open?.head ?? -1, first: open?.first ?? at })
  }

  /** Whether the chain that computes `sum` can start from `addend`. */
  private canTake(sum: ValueId, addend: ValueId): boolean {
    const chain = this.chains.get(sum)
    const head = chain?.head ?? -1
    if (head < 0 || !this.isSingle(sum)) return false
    return this.nodes[head]?.accumulate === null && (this.made.get(addend) ?? -1) < head
  }
}

/** Values that are the same number everywhere, known when the program is lowered. */
function uniformValues(program: Program): Map<ValueId, number> {
  const known = new Map<ValueId, number>()
  for (const { op, attrs, inputs, outputs } of program.nodes) {
    const x = known.get(inputs[0] ?? -1)
    if (op === 'full') known.set(outputs[0], Number(attrs.value))
    else if (x === undefined) continue
    else if (op === 'reshape' || op === 'broadcastTo' || op === 'detach') known.set(outputs[0], x)
    else if (op === 'scale') known.set(outputs[0], x * Number(attrs.factor) + Number(attrs.offset))
  }
  return known
}

/**
 * Where every row's loss has one constant cotangent (the loss is a plain sum), the head's forward pass gives the
 * gradient of its rows too: the logits are computed once.
 */
function joinLosses(program: Program, nodes: readonly FusedNode[]): FusedNode[] {
  const uniform = uniformValues(program)
  const key = (inputs: readonly ValueId[], { attrs }: FusedNode): string =>
    JSON.stringify([inputs, attrs.labelSmoothing])
  const backward = new Map<string, FusedNode>()
  for (const node of nodes) {
    const isConstant = node.op === 'linearCrossEntropyBackward' && uniform.has(node.inputs[0])
    if (isConstant) backward.set(key(node.inputs.slice(1), node), node)
  }
  const joined = new Set<FusedNode>()
  const result = nodes.map((node) => {
    const other = node.op === 'linearCrossEntropy' ? backward.get(key(node.inputs, node)) : undefined
    const cotangent = uniform.get(other?.inputs[0] ?? -1)
    if (!other || cotangent === undefined || joined.has(other)) return node
    joined.add(other)
    return { ...node, outputs: [...node.outputs, ...other.outputs], cotangent }
  })
  return result.filter((node) => !joined.has(node))
}
