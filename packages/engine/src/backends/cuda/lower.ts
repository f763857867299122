import { EngineError, internal } from '../../errors.js'
import type { Attrs, AttrValue, Program, ProgramInput, ProgramUpdate, ValueId } from '../../ir/program.js'
import { byteSize, sizeOf, type DType, type TensorType } from '../../ir/tensor-type.js'
import type { OpName } from '../../ops/index.js'
import { directDestinations } from '../../planner/liveness.js'
import { planMemory } from '../../planner/memory.js'
import type { BufferId, Destination, MemoryPlan, PlanBuffer, PlanRequest, PlanStep } from '../../planner/plan.js'
import { isUnsupported } from '../kernel-table.js'
import { touched, type Command, type Gemm, type Launch, type Ref } from './command.js'
import { fuse, type FusedNode } from './fuse.js'
import { groupLaunches } from './group.js'
import { cudaKernels } from './kernels/index.js'
import { stackAdapters, type Place } from './stack.js'

/** Memory of the session that a program uses: a tensor in the form that the program declares, or a part of an nf4 one. */
export interface External {
  readonly name: string
  readonly part: 'data' | 'codes' | 'absmax' | 'dense'
  readonly type: TensorType
  readonly role: 'constant' | 'state'
}

export interface CudaStep extends PlanStep {
  readonly op: string
  readonly command: Command
}

/** An operand of a node on the device. An nf4 constant has no `ref`. */
export interface Operand {
  readonly id: ValueId
  readonly type: TensorType
  readonly ref: Ref
  readonly nf4: { readonly codes: Ref; readonly absmax: Ref; readonly name: string } | null
  /** Elements from one row to the next where siblings lie between them; null where rows follow each other. */
  readonly pitch: number | null
}

/** An adapter's second product, added by the kernel of the base product. */
export interface LowRankView {
  readonly x: Operand
  readonly weight: Operand
  readonly alpha: number
}

export interface LowerOptions {
  /** Keep nf4 weights dequantized in the activations' dtype, or dequantize them before each use. */
  readonly nf4: 'packed' | 'resident'
  /** Compute capability of the device, as 90. */
  readonly architecture: number
  /** Multiprocessors of the device: the grid of kernels that share their work evenly. */
  readonly multiprocessors: number
}

export interface Lowered extends PlanRequest {
  readonly program: Program
  readonly steps: readonly CudaStep[]
  readonly externals: ReadonlyMap<BufferId, External>
  readonly inputs: ReadonlyMap<string, { readonly ref: Ref; readonly type: TensorType }>
  readonly outputs: ReadonlyMap<string, { readonly ref: Ref; readonly type: TensorType }>
  readonly memory: MemoryPlan
}

/** One node as a kernel sees it. */
export interface NodeView<A extends Attrs = Attrs> {
  readonly op: string
  readonly attrs: A
  readonly inputs: readonly Operand[]
  readonly outputs: readonly { readonly id: ValueId; readonly type: TensorType }[]
  /** Added to the first output (products and rmsNormBackward only). */
  readonly accumulate: Operand | null
  /** Multiplies the product. */
  readonly factor: number
  /** See FusedNode (linearCrossEntropy only). */
  readonly cotangent: number | null
  readonly lowRank: LowRankView | null
  /** See FusedNode (linear only). */
  readonly stackedRows: number | null
}

/** The part of a node that says what must be allocated. */
export type NodeOutputs = Pick<NodeView, 'outputs'>

/** Emits the commands of one op. */
export type CudaKernel<A extends Attrs> = (ctx: Emitter, node: NodeView<A>) => void

/** Collects the commands of a program over symbolic buffers. */
export class Emitter {
  readonly buffers: PlanBuffer[] = []
  steps: CudaStep[] = []
  readonly externals = new Map<BufferId, External>()
  private readonly externalIds = new Map<string, BufferId>()
  private readonly operands = new Map<ValueId, Operand>()
  private readonly stacks = new Map<string, Ref>()
  private label = ''
  private op = ''

  constructor(
    readonly options: LowerOptions,
    private readonly places: ReadonlyMap<ValueId, Place> = new Map(),
  ) {}

  enter(op: string, scope: string): void {
    this.op = op
    this.label = scope ? `${op} (${scope})` : op
  }

  buffer(bytes: number, label: string): Ref {
    const id = this.buffers.length
    this.buffers.push({ id, bytes, label, place: 'arena' })
    return { buffer: id, offset: 0 }
  }

  /** Memory for the duration of one op. */
  scratch(bytes: number): Ref {
    return this.buffer(bytes, `${this.op} scratch`)
  }

  external(external: External): Ref {
    const key = `${external.part} ${external.type.dtype} ${external.name}`
    const known = this.externalIds.get(key)
    if (known !== undefined) return { buffer: known, offset: 0 }
    const id = this.buffers.length
    this.buffers.push({ id, bytes: byteSize(external.type), label: external.name, place: 'external' })
    this.externals.set(id, external)
    this.externalIds.set(key, id)
    return { buffer: id, offset: 0 }
  }

  operand(id: ValueId): Operand {
    const operand = this.operands.get(id)
    if (!operand) throw internal(`%${id} was not lowered`)
    return operand
  }

  /** Says that a value is found at `ref`. */
  define(id: ValueId, type: TensorType, ref: Ref, more: Partial<Pick<Operand, 'nf4' | 'pitch'>> = {}): Ref {
    this.operands.set(id, { id, type, ref, nf4: null, pitch: null, ...more })
    return ref
  }

  /** New memory for output `index` of a node, or its part of the memory that it shares. */
  alloc(node: NodeOutputs, index = 0): Ref {
    const { id, type } = node.outputs[index]
    const place = this.places.get(id)
    if (!place) return this.define(id, type, this.buffer(byteSize(type), `%${id}`))
    const whole = this.stacks.get(place.stack) ?? this.buffer(place.bytes, place.stack)
    this.stacks.set(place.stack, whole)
    return this.define(id, type, { buffer: whole.buffer, offset: place.offset }, { pitch: place.pitch })
  }

  launch(
    launch: Omit<Launch, 'kind' | 'sharedBytes'> & { sharedBytes?: number },
    inPlace: readonly (readonly [Ref, Ref])[] = [],
  ): void {
    this.emit({ kind: 'launch', sharedBytes: 0, ...launch }, inPlace)
  }

  gemm(gemm: Omit<Gemm, 'kind'>): void {
    this.emit({ kind: 'gemm', ...gemm }, gemm.c ? [[gemm.d, gemm.c]] : [])
  }

  copy(from: Ref, to: Ref, bytes: number): void {
    this.emit({ kind: 'copy', from, to, bytes }, [])
  }

  private emit(command: Command, inPlace: readonly (readonly [Ref, Ref])[]): void {
    const pairs = inPlace
      .filter(([w, r]) => w.offset === 0 && r.offset === 0)
      .map(([w, r]) => [w.buffer, r.buffer] as const)
    this.steps.push({ label: this.label, op: this.op, command, ...touched(command), inPlace: pairs })
  }
}

/** Integer attributes, checked. */
export const attrNumber = (value: AttrValue): number => Number(value)

const DENSE: readonly DType[] = ['f32', 'bf16', 'f16', 'i32', 'u8', 'bool']

function declareInputs(emitter: Emitter, program: Program): Map<string, { ref: Ref; type: TensorType }> {
  const fed = new Map<string, { ref: Ref; type: TensorType }>()
  for (const input of program.inputs) {
    const type = program.types[input.value]
    if (input.role === 'input') {
      const ref = emitter.buffer(byteSize(type), input.name)
      emitter.define(input.value, type, ref)
      fed.set(input.name, { ref, type })
    } else {
      declareBound(emitter, input, type, input.role)
    }
  }
  return fed
}

function declareBound(
  emitter: Emitter,
  { name, value }: ProgramInput,
  type: TensorType,
  role: 'constant' | 'state',
): void {
  if (type.dtype !== 'nf4') {
    emitter.define(value, type, emitter.external({ name, part: 'data', type, role }))
    return
  }
  const size = sizeOf(type.shape)
  const codes: TensorType = { dtype: 'u8', shape: [Math.ceil(size / 2)] }
  const absmax: TensorType = { dtype: 'f32', shape: [Math.ceil(size / (type.blockSize ?? 64))] }
  const nf4 = {
    name,
    codes: emitter.external({ name, part: 'codes', type: codes, role }),
    absmax: emitter.external({ name, part: 'absmax', type: absmax, role }),
  }
  emitter.define(value, type, nf4.codes, { nf4 })
}

/** Ops whose kernels take operands with a pitch. */
const STEPS_OVER_SIBLINGS: ReadonlySet<string> = new Set<OpName>(['linear', 'matmul', 'reshape'])

function emitNode(emitter: Emitter, program: Program, node: FusedNode): void {
  const entry = cudaKernels[node.op as OpName] as CudaKernel<Attrs> | { unsupported: string }
  if (isUnsupported(entry)) throw new EngineError(`the cuda backend cannot run ${node.op}: ${entry.unsupported}`)
  emitter.enter(node.op, node.scope)
  const inputs = node.inputs.map((id) => emitter.operand(id))
  if (!STEPS_OVER_SIBLINGS.has(node.op) && inputs.some(({ pitch }) => pitch !== null))
    throw internal(`${node.op} reads rows that do not follow each other`)
  const { lowRank } = node
  entry(emitter, {
    op: node.op,
    attrs: node.attrs,
    inputs,
    outputs: node.outputs.map((id) => ({ id, type: program.types[id] })),
    accumulate: node.accumulate === null ? null : emitter.operand(node.accumulate),
    factor: node.factor,
    cotangent: node.cotangent,
    lowRank: lowRank && {
      x: emitter.operand(lowRank.x),
      weight: emitter.operand(lowRank.weight),
      alpha: lowRank.alpha,
    },
    stackedRows: node.stackedRows,
  })
}

/** Casts of weights and states come first, all together; then the rest, sources as late as possible. */
function schedule(program: Program, nodes: readonly FusedNode[]): FusedNode[] {
  const bound = new Set(program.inputs.filter((i) => i.role !== 'input').map((i) => i.value))
  const early = nodes.filter((node) => node.op === 'cast' && bound.has(node.inputs[0]))
  const rest = nodes.filter((node) => !early.includes(node))
  return [...early, ...sinkSources(rest)]
}

/** Nodes without inputs run right before their first use (or at the end), so that they can write over a state. */
function sinkSources(nodes: readonly FusedNode[]): FusedNode[] {
  const waiting = new Map<ValueId, FusedNode>()
  const order: FusedNode[] = []
  for (const node of nodes) {
    if (node.inputs.length === 0 && node.outputs.length === 1) {
      waiting.set(node.outputs[0], node)
      continue
    }
    for (const id of [...node.inputs, ...(node.accumulate === null ? [] : [node.accumulate])]) {
      const source = waiting.get(id)
      if (source && waiting.delete(id)) order.push(source)
    }
    order.push(node)
  }
  return [...order, ...waiting.values()]
}

/** Lowers a program to commands and plans its memory. */
export function lowerProgram(program: Program, options: LowerOptions): Lowered {
  const { nodes, places } = stackAdapters(program, fuse(program))
  const emitter = new Emitter(options, places)
  const inputs = declareInputs(emitter, program)
  for (const node of schedule(program, nodes)) emitNode(emitter, program, node)
  emitter.steps = groupLaunches(emitter.steps)
  const outputs = emitOutputs(emitter, program)
  const request = (): PlanRequest => ({
    steps: emitter.steps,
    buffers: emitter.buffers,
    fed: [...inputs.values()].map(({ ref }) => ref.buffer),
    results: [...outputs.values()].map(({ ref }) => ref.buffer),
  })
  const direct = emitUpdates(emitter, program, request)
  return {
    ...request(),
    program,
    steps: emitter.steps,
    externals: emitter.externals,
    inputs,
    outputs,
    memory: planMemory(request(), direct),
  }
}

/** Where each output is read from. One that is a state which this program updates is copied aside first. */
function emitOutputs(emitter: Emitter, program: Program): Map<string, { ref: Ref; type: TensorType }> {
  const updated = new Set(program.updates.map((u) => u.state))
  const outputs = new Map<string, { ref: Ref; type: TensorType }>()
  emitter.enter('output', '')
  for (const { name, value } of program.outputs) {
    const { ref, type } = emitter.operand(value)
    if (!DENSE.includes(type.dtype)) throw new EngineError(`output ${name}: an nf4 constant cannot be an output`)
    const external = emitter.externals.get(ref.buffer)
    if (external && updated.has(external.name)) {
      const aside = emitter.buffer(byteSize(type), name)
      emitter.copy(ref, aside, byteSize(type))
      outputs.set(name, { ref: aside, type })
    } else {
      outputs.set(name, { ref, type })
    }
  }
  return outputs
}

/** Emits what the states become, and finds those that are computed in place. */
function emitUpdates(emitter: Emitter, program: Program, request: () => PlanRequest): Map<BufferId, BufferId> {
  const stateRef = (name: string): Operand => {
    const input = program.inputs.find((i) => i.role === 'state' && i.name === name)
    if (!input) throw internal(`update of unknown state ${name}`)
    return emitter.operand(input.value)
  }
  const replaced = program.updates.filter((u) => u.kind === 'replace')
  emitter.enter('update', '')
  const sources = new Map<ProgramUpdate, Ref>()
  for (const update of replaced) {
    const { ref, type } = emitter.operand(update.value)
    const isArena = emitter.buffers[ref.buffer].place === 'arena'
    const aside = isArena ? ref : emitter.buffer(byteSize(type), update.state)
    if (!isArena) emitter.copy(ref, aside, byteSize(type))
    sources.set(update, aside)
  }
  for (const update of program.updates)
    if (update.kind === 'append') emitAppend(emitter, stateRef(update.state), update)
  const wanted = replaced.flatMap((update): Destination[] => {
    const ref = sources.get(update)
    const external = stateRef(update.state).ref.buffer
    return ref?.offset === 0 ? [{ buffer: ref.buffer, external }] : []
  })
  const direct = directDestinations(request(), wanted)
  emitter.enter('update', '')
  for (const update of replaced) {
    const { ref: to, type } = stateRef(update.state)
    const from = sources.get(update)
    if (from && direct.get(from.buffer) !== to.buffer) emitter.copy(from, to, byteSize(type))
  }
  return direct
}

function emitAppend(emitter: Emitter, state: Operand, update: ProgramUpdate): void {
  const rows = emitter.operand(update.value)
  const index = emitter.operand(update.index ?? -1)
  const [capacity, batch, ...rest] = state.type.shape
  const width = sizeOf(rest)
  const n = sizeOf(rows.type.shape)
  emitter.enter('append', update.state)
  emitter.launch({
    source: { file: 'movement', defines: { T: wordOf(state.type.dtype) } },
    entry: 'append',
    grid: [Math.ceil(n / 256), 1, 1],
    block: 256,
    args: [
      { kind: 'out', ref: state.ref },
      { kind: 'in', ref: rows.ref },
      { kind: 'in', ref: index.ref },
      ...[n, batch, n / batch / width, width, capacity].map((value) => ({ kind: 'i32', value }) as const),
    ],
  })
}

/** The unsigned word as wide as an element, for kernels that only move elements. */
export function wordOf(dtype: DType): 'u8' | 'u16' | 'u32' {
  if (dtype === 'f32' || dtype === 'i32') return 'u32'
  return dtype === 'bf16' || dtype === 'f16' ? 'u16' : 'u8'
}
