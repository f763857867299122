import { MessageChannel } from 'node:worker_threads'
import { dequantizeNf4, type Nf4Tensor } from '@mirastral/quant'
import type * as OrtModule from 'onnxruntime-node'
import type { InferenceSession, Tensor } from 'onnxruntime-node'
import { BackendUnavailableError, EngineError, internal } from '../../errors.js'
import { bf16Value, f16Value } from '../../numerics.js'
import type { Program, ProgramUpdate } from '../../ir/program.js'
import { sizeOf, type TensorType } from '../../ir/tensor-type.js'
import {
  isNf4,
  type CompileOptions,
  type DenseTensor,
  type HostTensor,
  type NamePrefixes,
  type RunResult,
  type TensorData,
} from '../backend.js'
import { boundName, checkBound, checkFeeds } from '../bindings.js'
import { lowerProgram, type Feed, type Lowered } from './lower.js'
import { encodeModel, type OnnxTypeName } from './onnx-proto.js'
import { OPTIMIZE_NOTHING, type OrtOptions } from './options.js'
import { roundConstant, type RoundedMatrix } from './prepack.js'

type Ort = typeof OrtModule

interface Compiled {
  readonly program: Program
  readonly lowered: Lowered
  readonly session: InferenceSession
  /** Feeds of constants, made once. */
  readonly constants: Map<string, Tensor>
}

type Bound =
  | { readonly kind: 'dense'; readonly type: TensorType; data: TensorData; tensor?: Tensor }
  | { readonly kind: 'nf4'; readonly tensor: Nf4Tensor }

/** What one run was asked for. */
interface Run {
  readonly feeds: Readonly<Record<string, TensorData>>
  readonly names: NamePrefixes
}

/** Loads ONNX Runtime's native binding on first use. */
async function loadOrt(): Promise<Ort> {
  try {
    return await import('onnxruntime-node')
  } catch (cause) {
    throw new BackendUnavailableError(
      'ort: onnxruntime-node could not be loaded; install it with `npm install onnxruntime-node@1.30` (glibc Linux, macOS or Windows)',
      { cause },
    )
  }
}

/** The tensors and programs of one ONNX Runtime session, in the thread that calls it: `run` blocks that thread. */
export class OrtExecutor {
  private readonly bound = new Map<string, Bound>()
  private readonly compiled = new Map<number, Compiled>()
  private next = 0

  private constructor(
    private readonly ort: Ort,
    private readonly options: OrtOptions,
  ) {}

  static async create(options: OrtOptions): Promise<OrtExecutor> {
    return new OrtExecutor(await loadOrt(), options)
  }

  bind(name: string, tensor: HostTensor): void {
    for (const { program, lowered } of this.compiled.values()) {
      if (lowered.prepacked.some((f) => f.source.name === name)) {
        throw new EngineError(`bind: '${name}' is prepacked by ${program.name}; dispose of the program before`)
      }
    }
    if (!isNf4(tensor)) this.bound.set(name, { kind: 'dense', ...toFloat32(tensor) })
    else if (this.options.nf4 === 'dense') this.bound.set(name, dequantized(tensor))
    else this.bound.set(name, { kind: 'nf4', tensor })
    for (const { constants } of this.compiled.values()) {
      for (const key of constants.keys())
        if (key === `in:${name}` || key.startsWith(`in:${name}.`)) constants.delete(key)
    }
  }

  unbind(name: string): void {
    this.bound.delete(name)
  }

  read(name: string): DenseTensor {
    const bound = this.bound.get(name)
    if (!bound) throw new EngineError(`read: nothing is bound as '${name}'`)
    if (bound.kind === 'nf4') return { type: f32Of(bound.tensor.shape), data: dequantizeNf4(bound.tensor) }
    return { type: bound.type, data: bound.data.slice() }
  }

  async compile(program: Program, options: CompileOptions = {}): Promise<number> {
    const prepack = options.prepackConstants ?? {}
    const lowered = lowerProgram(program, { denseNf4: this.options.nf4 === 'dense', prepack })
    const session = await this.ort.InferenceSession.create(encodeModel(lowered.model), {
      executionProviders: ['cpu'],
      intraOpNumThreads: this.options.threads,
      interOpNumThreads: 1,
      executionMode: 'sequential',
      graphOptimizationLevel: OPTIMIZE_NOTHING,
      enableMemPattern: false,
      enableCpuMemArena: options.releaseMemory !== true,
      logSeverityLevel: 3,
      externalData: this.prepackedData(lowered, prepack),
      ...(this.options.profile ? { enableProfiling: true, profileFilePrefix: this.options.profile } : {}),
    })
    this.compiled.set(this.next, { program, lowered, session, constants: new Map() })
    return this.next++
  }

  /** What the runtime copies or lays out anew when it creates the session. */
  private prepackedData(
    { prepacked }: Lowered,
    prepack: NonNullable<CompileOptions['prepackConstants']>,
  ): { path: string; data: Uint8Array }[] {
    const rounded = new Map<string, RoundedMatrix>()
    return prepacked.map(({ name: path, form, source: { name } }) => {
      const bound = this.bound.get(name)
      if (!bound) throw new EngineError(`compile: '${name}' is to be prepacked and is not bound`)
      if (form === 'whole') return { path, data: bytesOf(denseData(bound)) }
      const packing = prepack[name]
      const known = rounded.get(name) ?? roundConstant(hostTensor(bound), packing === 'int4' ? 'int4' : 'int8')
      rounded.set(name, known)
      const part = form === 'codes' ? known.codes : form === 'scales' ? known.scales : known.zeros
      if (!part) throw internal(`'${name}' has no ${form}`)
      return { path, data: bytesOf(part) }
    })
  }

  async run(id: number, feeds: Readonly<Record<string, TensorData>>, names: NamePrefixes = {}): Promise<RunResult> {
    const compiled = this.get(id)
    const { program, lowered, session } = compiled
    checkFeeds(program, feeds)
    for (const input of program.inputs) {
      if (input.role === 'constant') checkBound(program, input, this.shapeOf(input.name))
      if (input.role === 'state') checkBound(program, input, this.shapeOf(boundName(input.name, names)))
    }
    const run = { feeds, names }
    const tensors = Object.fromEntries(lowered.feeds.map((feed) => [feed.name, this.feedTensor(compiled, feed, run)]))
    const results = await session.run(tensors)
    program.updates.forEach((update, i) => {
      this.apply(program, update, results[lowered.updates[i]].data as TensorData, run)
    })
    return Object.fromEntries(program.outputs.map((o, i) => [o.name, results[lowered.outputs[i]].data as TensorData]))
  }

  private shapeOf(name: string): TensorType | undefined {
    const bound = this.bound.get(name)
    return bound?.kind === 'nf4' ? f32Of(bound.tensor.shape) : bound?.type
  }

  private feedTensor(compiled: Compiled, feed: Feed, run: Run): Tensor {
    const { role, name } = feed.source
    if (role === 'input') return this.tensor(feed.type, run.feeds[name], feed.dims as number[])
    if (role === 'state') return this.stateTensor(compiled.program, feed, run)
    const known = compiled.constants.get(feed.name)
    if (known) return known
    const tensor = this.tensor(feed.type, this.constantData(feed), feed.dims as number[])
    compiled.constants.set(feed.name, tensor)
    return tensor
  }

  private constantData({ form, source: { name } }: Feed): TensorData {
    const bound = this.bound.get(name)
    if (!bound) throw internal(`'${name}' vanished`)
    if (bound.kind === 'dense') {
      if (form !== 'dense') throw new EngineError(`run: '${name}' is nf4 in the program, bound is a dense tensor`)
      return bound.data
    }
    const { codes, absmax } = bound.tensor
    switch (form) {
      case 'codes8':
        return codes
      case 'codes16':
        return new Uint16Array(codes.buffer, codes.byteOffset, codes.length / 2)
      case 'absmax':
        return absmax
      case 'dense':
        return dequantizeNf4(bound.tensor)
      case 'whole':
      case 'codes':
      case 'scales':
      case 'zeros':
        throw internal(`'${name}' is part of the model`)
    }
  }

  /** A cache is fed up to its longest filled row: ONNX Runtime sees no more than there is. */
  private stateTensor(program: Program, feed: Feed, { feeds, names }: Run): Tensor {
    const bound = this.bound.get(boundName(feed.source.name, names))
    if (bound?.kind !== 'dense') throw internal(`state '${feed.source.name}' is not dense`)
    if (feed.dims.every((dim) => typeof dim === 'number')) {
      bound.tensor ??= this.tensor(feed.type, bound.data, feed.dims)
      return bound.tensor
    }
    const update = program.updates.find((u) => u.state === feed.source.name)
    const [capacity, ...rest] = bound.type.shape
    // A row of an empty cache is fed all the same, and masked.
    const filled = Math.min(capacity, Math.max(1, ...indexOf(program, update, feeds)))
    return this.tensor(feed.type, bound.data.subarray(0, filled * sizeOf(rest)), [filled, ...rest])
  }

  private apply(program: Program, update: ProgramUpdate, data: TensorData, { feeds, names }: Run): void {
    const bound = this.bound.get(boundName(update.state, names))
    if (bound?.kind !== 'dense') throw internal(`state '${update.state}' vanished`)
    if (update.kind === 'replace') {
      const before = bound.data
      bound.data = data
      delete bound.tensor
      release(before)
      return
    }
    const [capacity, batch, ...rest] = bound.type.shape
    const width = sizeOf(rest)
    const rows = data.length / batch / width
    indexOf(program, update, feeds).forEach((start, b) => {
      // Rows beyond the capacity belong to padding: generation checks its own length.
      for (let s = 0; s < rows && start + s < capacity; s++) {
        const from = (b * rows + s) * width
        bound.data.set(data.subarray(from, from + width), ((start + s) * batch + b) * width)
      }
    })
  }

  private tensor(type: OnnxTypeName, data: TensorData, dims: readonly number[]): Tensor {
    // `ort.Tensor` is typed per element type; the lowering has paired them already.
    const { Tensor } = this.ort
    switch (type) {
      case 'float32':
        return new Tensor('float32', data as Float32Array, dims)
      case 'int32':
        return new Tensor('int32', data as Int32Array, dims)
      case 'uint8':
        return new Tensor('uint8', data as Uint8Array, dims)
      case 'bool':
        return new Tensor('bool', data as Uint8Array, dims)
      case 'uint16':
        return new Tensor('uint16', data as Uint16Array, dims)
      case 'int64':
      case 'uint32':
        throw internal(`no feed has type ${type}`)
    }
  }

  private get(id: number): Compiled {
    const compiled = this.compiled.get(id)
    if (!compiled) throw new EngineError('run: the executable has been disposed of')
    return compiled
  }

  async release(id: number): Promise<void> {
    const compiled = this.compiled.get(id)
    this.compiled.delete(id)
    await compiled?.session.release()
  }

  /** Writes ONNX Runtime's profile of an executable and returns the file's name; needs the option `profile`. */
  endProfiling(id: number): void {
    this.get(id).session.endProfiling()
  }

  async dispose(): Promise<void> {
    for (const id of [...this.compiled.keys()]) await this.release(id)
    this.bound.clear()
  }
}

/**
 * Frees the memory of a buffer that nobody reads any more, now instead of at some later garbage collection: a training
 * step replaces every gradient. A buffer that is sent to a closed port is gone.
 */
function release(view: TensorData): void {
  const { port1 } = new MessageChannel()
  port1.close()
  port1.postMessage(null, [view.buffer as ArrayBuffer])
}

const bytesOf = (view: TensorData): Uint8Array => new Uint8Array(view.buffer, view.byteOffset, view.byteLength)

const denseData = (bound: Bound): TensorData => (bound.kind === 'nf4' ? dequantizeNf4(bound.tensor) : bound.data)

const hostTensor = (bound: Bound): HostTensor => (bound.kind === 'nf4' ? bound.tensor : bound)

const f32Of = (shape: readonly number[]): TensorType => ({ dtype: 'f32', shape })

function dequantized(tensor: Nf4Tensor): Bound {
  return { kind: 'dense', type: f32Of(tensor.shape), data: dequantizeNf4(tensor) }
}

/** The first row that each sequence writes. */
function indexOf(
  program: Program,
  update: ProgramUpdate | undefined,
  feeds: Readonly<Record<string, TensorData>>,
): number[] {
  const input = program.inputs.find((i) => i.value === update?.index)
  if (!input) throw new EngineError(`run ${program.name}: the ort backend needs the index of an append to be an input`)
  return [...feeds[input.name]]
}

/** The CPU computes in float32: half-precision constants are widened when they are bound. */
function toFloat32(tensor: DenseTensor): { type: TensorType; data: TensorData } {
  const { dtype, shape } = tensor.type
  if (dtype === 'bf16') return { type: f32Of(shape), data: Float32Array.from(tensor.data, bf16Value) }
  if (dtype === 'f16') return { type: f32Of(shape), data: Float32Array.from(tensor.data, f16Value) }
  return { type: tensor.type, data: tensor.data }
}
