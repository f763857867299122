import { EngineError } from '../errors.js'
import type { OpDef } from '../ops/define.js'
import type { Attrs, Program, ProgramInput, ProgramOutput, ProgramUpdate, Role, ValueId } from './program.js'
import { removeDeadNodes } from './simplify.js'
import { formatType, sameType, type DType, type Shape, type TensorType } from './tensor-type.js'
import { verifyProgram } from './verify.js'

/** A value of a graph under construction: what the op functions take and return. */
export class Value {
  constructor(
    readonly graph: Graph,
    readonly id: ValueId,
    readonly type: TensorType,
  ) {}

  get shape(): Shape {
    return this.type.shape
  }

  get dtype(): DType {
    return this.type.dtype
  }
}

/** A node of a graph under construction; it keeps its op's definition so that autodiff needs no registry. */
export interface GraphNode {
  readonly def: OpDef<Attrs>
  readonly attrs: Attrs
  readonly inputs: readonly Value[]
  readonly outputs: readonly Value[]
  readonly scope: string
  /** The activation-checkpointing segment, if the node was emitted inside one. */
  readonly segment: number | null
}

/**
 * Builds a program: declares inputs, collects the nodes that op functions emit, and freezes them.
 *
 * ```ts
 * const g = new Graph('double')
 * const x = g.input('x', f32(2, 3))
 * g.output('y', add(x, x))
 * const program = g.build()
 * ```
 */
export class Graph {
  readonly nodes: GraphNode[] = []
  private readonly types: TensorType[] = []
  private readonly inputs = new Map<string, { role: Role; value: Value }>()
  private readonly updates: ProgramUpdate[] = []
  private readonly outputs: ProgramOutput[] = []
  private readonly producers = new Map<ValueId, GraphNode>()
  private scopes: string[] = []
  private currentSegment: number | null = null
  private segments = 0

  constructor(readonly name = 'program') {}

  /** A value fed at every run. */
  input(name: string, type: TensorType): Value {
    return this.declare('input', name, type)
  }

  /** A value bound once to the session and never changed, such as a frozen weight. Asking twice gives the same value. */
  constant(name: string, type: TensorType): Value {
    return this.declare('constant', name, type)
  }

  /** A value that stays on the device between runs; `update` says what it becomes. Asking twice gives the same value. */
  state(name: string, type: TensorType): Value {
    return this.declare('state', name, type)
  }

  private declare(role: Role, name: string, type: TensorType): Value {
    const known = this.inputs.get(name)
    if (known) {
      if (known.role === role && sameType(known.value.type, type)) return known.value
      const was = `${known.role} ${formatType(known.value.type)}`
      throw new EngineError(`graph ${this.name}: '${name}' is declared as ${was}, got ${role} ${formatType(type)}`)
    }
    if (type.dtype === 'nf4' && role !== 'constant') {
      throw new EngineError(`graph ${this.name}: only a constant may be nf4, got ${role} '${name}'`)
    }
    const value = this.fresh(type)
    this.inputs.set(name, { role, value })
    return value
  }

  /** After a run the state takes this value (see {@link ProgramUpdate}). The type must be the state's. */
  update(state: Value, value: Value): void {
    const name = this.stateName(state)
    if (!sameType(state.type, value.type)) {
      throw new EngineError(
        `update of ${name}: must be ${formatType(state.type)} as the state, got ${formatType(value.type)}`,
      )
    }
    this.updates.push({ state: name, value: value.id, kind: 'replace' })
  }

  /** Writes rows into a cache state [capacity, batch, ...rest] after a run (see {@link ProgramUpdate}). */
  append(state: Value, rows: Value, index: Value): void {
    const name = this.stateName(state)
    const [, batch, ...rest] = state.shape
    const [rowsBatch, , ...rowsRest] = rows.shape
    if (batch !== rowsBatch || rest.join() !== rowsRest.join() || state.dtype !== rows.dtype) {
      throw new EngineError(
        `append to ${name}: rows must be [batch, rows, ...rest] of ${formatType(state.type)}, got ${formatType(rows.type)}`,
      )
    }
    if (index.dtype !== 'i32' || index.shape.length !== 1 || index.shape[0] !== batch) {
      throw new EngineError(`append to ${name}: index must be i32[${batch}], got ${formatType(index.type)}`)
    }
    this.updates.push({ state: name, value: rows.id, kind: 'append', index: index.id })
  }

  private stateName(state: Value): string {
    for (const [name, { role, value }] of this.inputs) {
      if (value === state && role === 'state') return name
    }
    throw new EngineError(`graph ${this.name}: only a state can be updated, got value %${state.id}`)
  }

  output(name: string, value: Value): void {
    if (this.outputs.some((o) => o.name === name)) {
      throw new EngineError(`graph ${this.name}: output '${name}' is declared twice`)
    }
    this.outputs.push({ name, value: value.id })
  }

  /** Nodes emitted inside carry the name, which backends use for profiles and errors. */
  scope<T>(name: string, emit: () => T): T {
    this.scopes.push(name)
    try {
      return emit()
    } finally {
      this.scopes.pop()
    }
  }

  /**
   * A part of the forward pass that activation checkpointing may compute again in the backward pass, instead of keeping
   * its intermediate values. Segments do not nest.
   */
  segment<T>(name: string, emit: () => T): T {
    if (this.currentSegment !== null) throw new EngineError(`segment ${name}: segments do not nest`)
    this.currentSegment = this.segments++
    try {
      return this.scope(name, emit)
    } finally {
      this.currentSegment = null
    }
  }

  /** Adds a node; the op functions call this. Shapes and dtypes are checked by the op's `infer`. */
  apply<A extends Attrs>(def: OpDef<A>, inputs: readonly Value[], attrs: A): Value[] {
    for (const input of inputs) {
      if (input.graph !== this) throw new EngineError(`${def.name}: all inputs must belong to graph ${this.name}`)
    }
    const outputs = def.infer(
      inputs.map((v) => v.type),
      attrs,
    )
    const node: GraphNode = {
      def: def as unknown as OpDef<Attrs>,
      attrs,
      inputs,
      outputs: outputs.map((type) => this.fresh(type)),
      scope: this.scopes.join('/'),
      segment: this.currentSegment,
    }
    this.nodes.push(node)
    for (const output of node.outputs) this.producers.set(output.id, node)
    return [...node.outputs]
  }

  /** The node that computes the value, or undefined for a program input. */
  producerOf(value: Value): GraphNode | undefined {
    return this.producers.get(value.id)
  }

  private fresh(type: TensorType): Value {
    this.types.push(type)
    return new Value(this, this.types.length - 1, type)
  }

  /** Freezes the graph: dead nodes and unused inputs are dropped, values are renumbered, and the result is verified. */
  build(): Program {
    const inputs: ProgramInput[] = [...this.inputs].map(([name, { role, value }]) => ({ role, name, value: value.id }))
    const program = removeDeadNodes({
      name: this.name,
      types: this.types,
      inputs,
      nodes: this.nodes.map((node) => ({
        op: node.def.name,
        attrs: node.attrs,
        inputs: node.inputs.map((v) => v.id),
        outputs: node.outputs.map((v) => v.id),
        scope: node.scope,
      })),
      updates: this.updates,
      outputs: this.outputs,
    })
    verifyProgram(program)
    return program
  }
}
