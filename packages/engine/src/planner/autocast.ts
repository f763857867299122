import { internal } from '../errors.js'
import { Graph, type Value } from '../ir/graph.js'
import type { Program, ProgramInput, ProgramNode, ValueId } from '../ir/program.js'
import type { DType, TensorType } from '../ir/tensor-type.js'
import { cast } from '../ops/elementwise.js'
import { opByName, type OpName } from '../ops/index.js'

/** Operands that products, norms and attention take in 16 bits; their kernels accumulate in float32 all the same. */
const NARROW: Partial<Record<OpName, readonly number[]>> = {
  linear: [0, 1],
  matmul: [0, 1],
  rmsNorm: [0, 1],
  rmsNormBackward: [0, 1, 2],
  rope: [0],
  swiglu: [0, 1],
  swigluBackward: [0, 1, 2],
  attention: [0, 1, 2],
  attentionBackward: [0, 1, 2, 3, 4],
  cachedAttention: [0, 1, 2, 3, 4],
  embedding: [0],
  embeddingBackward: [0],
  linearCrossEntropy: [0, 1],
  linearCrossEntropyBackward: [1, 2],
  dropout: [0],
}

/** Ops that keep the dtype of their operands: 16 bits where all of them have 16 bits, else float32. */
const FOLLOW: ReadonlySet<string> = new Set<OpName>([
  ...(['add', 'sub', 'mul', 'maximum', 'neg', 'scale', 'select', 'barrier', 'detach'] as const),
  ...(['reshape', 'transpose', 'broadcastTo', 'slice', 'concat'] as const),
])

type HalfDType = 'bf16' | 'f16'

/**
 * The same program with activations and dense weights in 16 bits: what a float32 program becomes on a device with tensor
 * cores. States, their updates, losses, reductions and the optimizer stay float32; caches that are appended to become
 * 16-bit. Casts appear where the two meet, once per value. Outputs may become 16-bit.
 */
export function autocast(program: Program, half: HalfDType): Program {
  return new Autocast(program, half).run()
}

class Autocast {
  private readonly graph: Graph
  private readonly values = new Map<ValueId, Value>()
  private readonly casts = new Map<Value, Value>()
  private readonly appended: ReadonlySet<string>
  private readonly wideUses = new Set<ValueId>()

  constructor(
    private readonly program: Program,
    private readonly half: HalfDType,
  ) {
    this.graph = new Graph(program.name)
    this.appended = new Set(program.updates.filter((u) => u.kind === 'append').map((u) => u.state))
    for (const node of program.nodes) {
      const narrow = NARROW[node.op as OpName] ?? []
      node.inputs.forEach((id, i) => {
        if (!narrow.includes(i) && !FOLLOW.has(node.op)) this.wideUses.add(id)
      })
    }
  }

  run(): Program {
    for (const input of this.program.inputs) this.values.set(input.value, this.declare(input))
    for (const node of this.program.nodes) this.emit(node)
    for (const update of this.program.updates) this.update(update)
    for (const output of this.program.outputs) this.graph.output(output.name, this.value(output.value))
    return this.graph.build()
  }

  private value(id: ValueId): Value {
    const value = this.values.get(id)
    if (!value) throw internal(`autocast: %${id} is not defined`)
    return value
  }

  /** Dense weights that only 16-bit ops read, and caches, are declared in 16 bits. */
  private declare({ role, name, value }: ProgramInput): Value {
    const type = this.program.types[value]
    const narrows = role === 'constant' ? !this.wideUses.has(value) : this.appended.has(name)
    const declared: TensorType = narrows && type.dtype === 'f32' ? { ...type, dtype: this.half } : type
    const fresh = this.graph[role](name, declared)
    // Activations that come from outside, such as noise, are no wider than those computed here.
    return role === 'input' && type.dtype === 'f32' && type.shape.length > 1 && !this.wideUses.has(value)
      ? this.as(fresh, this.half)
      : fresh
  }

  /** The value in another float dtype, cast once. */
  private as(value: Value, dtype: DType): Value {
    if (value.dtype === dtype || (value.dtype !== 'f32' && value.dtype !== this.half)) return value
    const known = this.casts.get(value)
    if (known) return known
    const made = cast(value, dtype)
    this.casts.set(value, made)
    // Casting back would lose nothing when it is widened first.
    if (dtype === 'f32') this.casts.set(made, value)
    return made
  }

  private emit(node: ProgramNode): void {
    const def = opByName(node.op)
    if (!def) throw internal(`autocast: unknown op ${node.op}`)
    this.graph.scope(node.scope, () => {
      const inputs = this.operands(node)
      const outputs = this.graph.apply(def, inputs, node.attrs)
      node.outputs.forEach((id, i) => this.values.set(id, outputs[i]))
    })
  }

  private operands(node: ProgramNode): Value[] {
    const values = node.inputs.map((id) => this.value(id))
    const narrow = NARROW[node.op as OpName]
    if (narrow) return values.map((v, i) => this.as(v, narrow.includes(i) ? this.half : 'f32'))
    if (FOLLOW.has(node.op)) {
      const ordered = node.op === 'barrier' ? values.slice(0, 1) : values
      const wide = ordered.some((v) => v.dtype === 'f32')
      return values.map((v) => (wide ? this.as(v, 'f32') : v))
    }
    return node.op === 'cast' ? values : values.map((v) => this.as(v, 'f32'))
  }

  private update({ state, value, kind, index }: Program['updates'][number]): void {
    const input = this.program.inputs.find((i) => i.role === 'state' && i.name === state)
    const target = this.value(input?.value ?? -1)
    if (kind === 'replace') this.graph.update(target, this.as(this.value(value), target.dtype))
    else this.graph.append(target, this.as(this.value(value), target.dtype), this.value(index ?? -1))
  }
}
