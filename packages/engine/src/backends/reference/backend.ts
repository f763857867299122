import { dequantizeNf4 } from '@mirastral/quant'
import { EngineError, internal } from '../../errors.js'
import { bf16Value, f16Value } from '../../numerics.js'
import type { Program, ProgramInput, ValueId } from '../../ir/program.js'
import { sizeOf, type TensorType } from '../../ir/tensor-type.js'
import { opByName } from '../../ops/index.js'
import {
  isNf4,
  type Backend,
  type CompileOptions,
  type DenseTensor,
  type Executable,
  type HostTensor,
  type NamePrefixes,
  type RunResult,
  type Session,
  type TensorData,
} from '../backend.js'
import { boundName, checkBound, checkFeeds } from '../bindings.js'

interface Entry {
  readonly type: TensorType
  data: Float64Array
}

/**
 * Evaluates every op's definition in float64, one node after the other. Slow and simple: the oracle of all tests.
 */
export function referenceBackend(): Backend {
  return { name: 'reference', createSession: () => Promise.resolve(new ReferenceSession()) }
}

/** The reference session also runs synchronously, which tests of derivatives use. */
export class ReferenceSession implements Session {
  readonly backend = 'reference'
  private readonly entries = new Map<string, Entry>()

  bind(name: string, tensor: HostTensor): Promise<void> {
    const type = isNf4(tensor) ? { dtype: 'f32' as const, shape: tensor.shape } : tensor.type
    this.entries.set(name, { type, data: toFloat64(tensor) })
    return Promise.resolve()
  }

  /** Binds float64 values without rounding. */
  bindExact(name: string, type: TensorType, data: Float64Array): void {
    this.entries.set(name, { type, data })
  }

  read(name: string): Promise<DenseTensor> {
    const entry = this.entries.get(name)
    if (!entry) return Promise.reject(new EngineError(`read: nothing is bound as '${name}'`))
    return Promise.resolve({ type: { dtype: 'f32', shape: entry.type.shape }, data: Float32Array.from(entry.data) })
  }

  unbind(name: string): Promise<void> {
    this.entries.delete(name)
    return Promise.resolve()
  }

  compile(program: Program, options: CompileOptions = {}): Promise<Executable> {
    const rounded = Object.entries(options.prepackConstants ?? {}).find(([, packing]) => packing !== 'exact')
    if (rounded)
      return Promise.reject(new EngineError(`the reference backend rounds nothing, got ${rounded.join(': ')}`))
    return Promise.resolve({
      run: (feeds, names) => {
        checkFeeds(program, feeds)
        const exact = Object.fromEntries(Object.entries(feeds).map(([name, data]) => [name, Float64Array.from(data)]))
        const outputs = this.evaluate(program, exact, names)
        const typed = program.outputs.map(
          (o) => [o.name, fromFloat64(outputs[o.name], program.types[o.value])] as const,
        )
        return Promise.resolve<RunResult>(Object.fromEntries(typed))
      },
      dispose: () => Promise.resolve(),
    })
  }

  /** Runs a program on float64 inputs and returns float64 outputs, after applying the updates. */
  evaluate(
    program: Program,
    feeds: Readonly<Record<string, Float64Array>>,
    names: NamePrefixes = {},
  ): Record<string, Float64Array> {
    const values = new Map<ValueId, Float64Array>()
    const get = (id: ValueId): Float64Array => {
      const data = values.get(id)
      if (!data) throw internal(`%${id} was not computed`)
      return data
    }
    for (const input of program.inputs) values.set(input.value, this.inputData(program, input, feeds, names))
    for (const node of program.nodes) {
      const def = opByName(node.op)
      if (!def) throw internal(`unknown op '${node.op}'`)
      const types = {
        inputs: node.inputs.map((id) => program.types[id]),
        outputs: node.outputs.map((id) => program.types[id]),
      }
      def.reference(node.inputs.map(get), node.attrs, types).forEach((data, i) => values.set(node.outputs[i], data))
    }
    const outputs = Object.fromEntries(program.outputs.map((o) => [o.name, get(o.value)]))
    const updates = program.updates.map((u) => ({
      u,
      data: get(u.value),
      index: u.index === undefined ? null : get(u.index),
    }))
    for (const { u, data, index } of updates) this.apply(boundName(u.state, names), data, index)
    return outputs
  }

  private inputData(
    program: Program,
    input: ProgramInput,
    feeds: Readonly<Record<string, Float64Array>>,
    names: NamePrefixes,
  ): Float64Array {
    if (input.role === 'input') {
      const data = feeds[input.name]
      if (data === undefined) throw new EngineError(`run ${program.name}: input '${input.name}' is missing`)
      return data
    }
    const entry = this.entries.get(input.role === 'state' ? boundName(input.name, names) : input.name)
    checkBound(program, input, entry?.type)
    return entry?.data ?? new Float64Array()
  }

  private apply(state: string, data: Float64Array, index: Float64Array | null): void {
    const entry = this.entries.get(state)
    if (!entry) throw internal(`state '${state}' vanished`)
    if (!index) {
      entry.data = data
      return
    }
    const [, batch, ...rest] = entry.type.shape
    const width = sizeOf(rest)
    const rows = data.length / batch / width
    const next = entry.data.slice()
    index.forEach((start, b) => {
      for (let s = 0; s < rows; s++) {
        const from = (b * rows + s) * width
        next.set(data.subarray(from, from + width), ((start + s) * batch + b) * width)
      }
    })
    entry.data = next
  }

  dispose(): Promise<void> {
    this.entries.clear()
    return Promise.resolve()
  }
}

/** The values of a host tensor in float64. */
export function toFloat64(tensor: HostTensor): Float64Array {
  if (isNf4(tensor)) return Float64Array.from(dequantizeNf4(tensor))
  switch (tensor.type.dtype) {
    case 'bf16':
      return Float64Array.from(tensor.data, bf16Value)
    case 'f16':
      return Float64Array.from(tensor.data, f16Value)
    case 'f32':
    case 'i32':
    case 'u8':
    case 'bool':
      return Float64Array.from(tensor.data)
    case 'nf4':
      throw new EngineError('bind: an nf4 tensor needs codes and absmax, got dense data')
  }
}

function fromFloat64(data: Float64Array, type: TensorType): TensorData {
  if (type.dtype === 'i32') return Int32Array.from(data)
  if (type.dtype === 'bool' || type.dtype === 'u8') return Uint8Array.from(data)
  return Float32Array.from(data)
}
