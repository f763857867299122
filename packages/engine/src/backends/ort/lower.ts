import { EngineError, internal } from '../../errors.js'
import type { Attrs, Program, ProgramInput, ProgramNode, ValueId } from '../../ir/program.js'
import { formatType, sizeOf, type TensorType } from '../../ir/tensor-type.js'
import type { ReferenceTypes } from '../../ops/define.js'
import type { OpName } from '../../ops/index.js'
import type { CompileOptions, ConstantPacking } from '../backend.js'
import { typeOfInput } from '../bindings.js'
import { isUnsupported } from '../kernel-table.js'
import { ortKernels } from './kernels/index.js'
import { OnnxBuilder } from './onnx-builder.js'
import type { OnnxModel, OnnxTensor, OnnxTypeName, OnnxValueInfo } from './onnx-proto.js'
import { orderNodes } from './order.js'

/** The forms in which an NF4 constant is fed: bytes for the fused product, 16-bit views of them for the table lookup. */
export type FeedForm = 'dense' | 'codes8' | 'codes16' | 'absmax' | PrepackedForm

/** The forms in which a constant is part of the model, for the runtime to lay out anew. */
export type PrepackedForm = 'whole' | 'codes' | 'scales' | 'zeros'

const prepackedForms: ReadonlySet<FeedForm> = new Set<PrepackedForm>(['whole', 'codes', 'scales', 'zeros'])

/** An input of the ONNX model and where its data comes from. */
export interface Feed extends OnnxValueInfo {
  readonly source: ProgramInput
  readonly form: FeedForm
}

export interface Lowered {
  readonly model: OnnxModel
  readonly feeds: readonly Feed[]
  /** Initializers whose data is given beside the model, under their names. */
  readonly prepacked: readonly (Feed & { readonly dims: readonly number[] })[]
  /** ONNX output names of the program's outputs and updates, in their order. */
  readonly outputs: readonly string[]
  readonly updates: readonly string[]
}

/** What a kernel may use while it lowers one node. */
export class LowerContext {
  readonly onnx = new OnnxBuilder()
  /** Values that one kernel leaves for another, such as the attention probabilities for the backward pass. */
  readonly kept = new Map<string, string>()
  readonly feeds: Feed[] = []
  private readonly nf4 = new Map<string, ProgramInput>()
  private readonly constants = new Map<string, ProgramInput>()

  constructor(
    private readonly program: Program,
    private readonly options: LowerOptions,
  ) {}

  /** Declares a program input as one or more ONNX inputs, on first use for NF4. Returns the value's name. */
  declare(input: ProgramInput): string {
    const type = typeOfInput(this.program, input)
    const name = `in:${input.name}`
    if (input.role === 'constant') this.constants.set(name, input)
    if (type.dtype === 'nf4' && !this.options.denseNf4 && canStayPacked(type)) {
      this.nf4.set(name, input)
      return name
    }
    const appended = this.program.updates.some((u) => u.kind === 'append' && u.state === input.name)
    const dims = type.shape.map((n, axis) => (appended && axis === 0 ? filledRows(input.name) : n))
    this.feeds.push({ source: input, form: 'dense', name, type: onnxType(type), dims })
    return name
  }

  isPacked(name: string): boolean {
    return this.nf4.has(name)
  }

  /** The name of one of the feeds of a packed NF4 constant. */
  packed(name: string, form: 'codes8' | 'codes16' | 'absmax'): string {
    const source = this.nf4.get(name)
    if (!source) throw internal(`${name} is not a packed nf4 constant`)
    const { shape, blockSize = 64 } = typeOfInput(this.program, source)
    const count = sizeOf(shape)
    const feed: Feed = {
      source,
      form,
      name: `${name}.${form}`,
      type: form === 'absmax' ? 'float32' : form === 'codes8' ? 'uint8' : 'uint16',
      dims: [form === 'absmax' ? count / blockSize : form === 'codes8' ? count / 2 : count / 4],
    }
    if (!this.feeds.some((f) => f.name === feed.name)) this.feeds.push(feed)
    return feed.name
  }

  /** How the weight of a product is to be laid out anew; undefined where it is fed as it is bound. */
  packing(name: string): ConstantPacking | undefined {
    const source = this.constants.get(name)
    return source && this.options.prepack?.[source.name]
  }

  /** The name of one of the initializers of a constant that is laid out anew. */
  prepacked(name: string, form: PrepackedForm, type: OnnxTypeName, dims: readonly number[]): string {
    const source = this.constants.get(name)
    if (!source) throw internal(`${name} is not a constant`)
    const own = `${name}.${form}`
    if (!this.feeds.some((f) => f.name === own)) this.feeds.push({ source, form, name: own, type, dims })
    return own
  }

  /** Computes a value once per key. */
  keep(key: string, make: () => string): string {
    const known = this.kept.get(key)
    if (known !== undefined) return known
    const name = make()
    this.kept.set(key, name)
    return name
  }
}

/** Lowers one node: takes the names of its inputs, returns the names of its outputs. */
export type OrtKernel<A extends Attrs> = (
  ctx: LowerContext,
  inputs: readonly string[],
  attrs: A,
  types: ReferenceTypes,
) => string[]

/** The 16-bit table lookup and the fused product need whole blocks and groups of four. */
export const canStayPacked = (type: TensorType): boolean => sizeOf(type.shape) % (type.blockSize ?? 64) === 0

function onnxType(type: TensorType): OnnxTypeName {
  switch (type.dtype) {
    case 'f32':
    case 'nf4':
      return 'float32'
    case 'i32':
      return 'int32'
    case 'u8':
      return 'uint8'
    case 'bool':
      return 'bool'
    case 'f16':
    case 'bf16':
      throw new EngineError(`the ort backend computes in float32, got ${formatType(type)}; build the program with f32`)
  }
}

/** The size of a cache's first axis: every cache is filled up to a row of its own. */
const filledRows = (state: string): string => `filled rows of ${state}`

export interface LowerOptions {
  /** NF4 constants are fed dequantized: faster, eight times the bytes. */
  readonly denseNf4: boolean
  /** Constants to be laid out anew, by name. */
  readonly prepack?: CompileOptions['prepackConstants']
}

/** Lowers a whole program to one ONNX model. The order of the nodes decides ONNX Runtime's memory: see `order.ts`. */
export function lowerProgram(program: Program, options: LowerOptions): Lowered {
  const ctx = new LowerContext(program, options)
  const names = new Map<ValueId, string>()
  const nameOf = (id: ValueId): string => {
    const name = names.get(id)
    if (name === undefined) throw internal(`%${id} was not lowered`)
    return name
  }
  for (const input of program.inputs) names.set(input.value, ctx.declare(input))
  for (const node of program.nodes) {
    ctx.onnx.scope = node.scope
    const outputs = lowerNode(ctx, program, node, node.inputs.map(nameOf))
    node.outputs.forEach((id, i) => names.set(id, outputs[i]))
  }
  ctx.onnx.scope = ''
  const taken = new Set<string>()
  const result = (id: ValueId): string => {
    // An ONNX output must be produced by a node, and by one output name only.
    const name = nameOf(id)
    const own = name.startsWith('in:') || taken.has(name) ? ctx.onnx.node('Identity', [name]) : name
    taken.add(own)
    return own
  }
  const updates = program.updates.map((u) => result(u.value))
  const outputs = program.outputs.map((o) => result(o.value))
  return finish(program, ctx, outputs, updates)
}

function lowerNode(ctx: LowerContext, program: Program, node: ProgramNode, inputs: readonly string[]): string[] {
  const entry = ortKernels[node.op as OpName] as OrtKernel<Attrs> | { unsupported: string }
  if (isUnsupported(entry)) throw new EngineError(`the ort backend cannot run ${node.op}: ${entry.unsupported}`)
  const types = {
    inputs: node.inputs.map((id) => program.types[id]),
    outputs: node.outputs.map((id) => program.types[id]),
  }
  for (const type of types.outputs) onnxType(type)
  return entry(ctx, inputs, node.attrs, types)
}

function finish(program: Program, ctx: LowerContext, outputs: readonly string[], updates: readonly string[]): Lowered {
  const constants = new Set(ctx.feeds.filter((f) => f.source.role === 'constant').map((f) => f.name))
  const nodes = orderNodes(ctx.onnx.nodes, { constants, initializers: ctx.onnx.initializers, outputs, updates })
  const used = new Set(nodes.flatMap((n) => n.inputs))
  const live = ctx.feeds.filter((f) => used.has(f.name))
  const feeds = live.filter((f) => !prepackedForms.has(f.form))
  const prepacked = live.flatMap((f) => (prepackedForms.has(f.form) ? [{ ...f, dims: f.dims as number[] }] : []))
  const info = (name: string, id: ValueId): OnnxValueInfo => {
    const type = program.types[id]
    return { name, type: onnxType(type), dims: type.shape }
  }
  return {
    model: {
      name: program.name,
      opsets: { '': 21, 'com.microsoft': 1 },
      nodes,
      initializers: [...ctx.onnx.initializers.filter((t) => used.has(t.name)), ...prepacked.map(externalTensor)],
      inputs: feeds.map(({ name, type, dims }) => ({ name, type, dims })),
      outputs: [
        ...program.updates.map((u, i) => info(updates[i], u.value)),
        ...program.outputs.map((o, i) => info(outputs[i], o.value)),
      ],
    },
    feeds,
    prepacked,
    outputs,
    updates,
  }
}

/** The data of each initializer is a file of its own name, which is in memory. */
function externalTensor({ name, type, dims }: Lowered['prepacked'][number]): OnnxTensor {
  const length = sizeOf(dims) * (type === 'float32' ? 4 : 1)
  return { name, type, dims, raw: { location: name, offset: 0, length } }
}
