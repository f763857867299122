import { dequantizeNf4, quantizeNf4 } from '@mirastral/quant'
import { grad } from '../autodiff/grad.js'
import type { HostTensor } from '../backends/backend.js'
import { Graph, type Value } from '../ir/graph.js'
import type { Attrs, Program } from '../ir/program.js'
import { f32, isFloat, sizeOf, type TensorType } from '../ir/tensor-type.js'
import type { OpDef, Sample, SampleInput } from '../ops/define.js'
import { add, cast, mul } from '../ops/elementwise.js'
import { sum } from '../ops/reduce.js'
import { TestRandom } from './random.js'

/** A tensor of a sample in the forms that the executors take. */
export interface SampleTensor {
  readonly name: string
  readonly type: TensorType
  readonly exact: Float64Array
  readonly host: HostTensor
  /** Fed at each run, or bound (nf4). */
  readonly fed: boolean
  readonly differentiable: boolean
}

/** One sample of an op as programs: the op alone, and its derivative along a random cotangent. */
export interface SamplePrograms {
  readonly title: string
  readonly forward: Program
  /** loss = sum(output * cotangent); null where the op or the sample has no derivative. */
  readonly backward: Program | null
  readonly tensors: readonly SampleTensor[]
  /** Cotangents, inputs of the backward program only. */
  readonly cotangents: readonly SampleTensor[]
}

function draw(input: SampleInput, random: TestRandom): Float64Array {
  const { type, values, range } = input
  if (values) return Float64Array.from(values)
  return Float64Array.from({ length: sizeOf(type.shape) }, () => {
    if (!range) return Math.fround(random.normal())
    const x = range[0] + (range[1] - range[0]) * random.uniform()
    return isFloat(type.dtype) ? Math.fround(x) : Math.floor(x)
  })
}

function hostOf(type: TensorType, exact: Float64Array): HostTensor {
  if (type.dtype === 'i32') return { type, data: Int32Array.from(exact) }
  if (type.dtype === 'bool' || type.dtype === 'u8') return { type, data: Uint8Array.from(exact) }
  return { type, data: Float32Array.from(exact) }
}

function tensorOf(name: string, input: SampleInput, random: TestRandom): SampleTensor {
  const { type } = input
  const exact = draw(input, random)
  if (type.dtype !== 'nf4') {
    const differentiable = isFloat(type.dtype) && !input.frozen
    return { name, type, exact, host: hostOf(type, exact), fed: true, differentiable }
  }
  const host = quantizeNf4(Float32Array.from(exact), { blockSize: type.blockSize ?? 64, shape: [...type.shape] })
  return { name, type, exact: Float64Array.from(dequantizeNf4(host)), host, fed: false, differentiable: false }
}

const declare = (g: Graph, t: SampleTensor): Value => (t.fed ? g.input(t.name, t.type) : g.constant(t.name, t.type))

/** Builds the programs of a sample. Values depend only on the op's name and the sample's title. */
export function samplePrograms(def: OpDef<Attrs>, sample: Sample<Attrs>): SamplePrograms {
  const random = new TestRandom(`${def.name}/${sample.title}`)
  const tensors = sample.inputs.map((input, i) => tensorOf(`x${i}`, input, random))
  const forward = new Graph(def.name)
  const outputs = forward.apply(
    def,
    tensors.map((t) => declare(forward, t)),
    sample.attrs,
  )
  outputs.forEach((value, i) => forward.output(`y${i}`, value))
  const cotangents = outputs.map((value, i) => tensorOf(`dy${i}`, { type: f32(...value.shape) }, random))
  const differentiable = typeof def.vjp === 'function' && !sample.forwardOnly && tensors.some((t) => t.differentiable)
  const backward = differentiable ? backwardProgram(def, sample, tensors, cotangents) : null
  return { title: `${def.name}: ${sample.title}`, forward: forward.build(), backward, tensors, cotangents }
}

/** Ops whose further outputs exist for their backward kernel only are differentiated through the first output. */
function backwardProgram(
  def: OpDef<Attrs>,
  sample: Sample<Attrs>,
  tensors: readonly SampleTensor[],
  cotangents: readonly SampleTensor[],
): Program {
  const g = new Graph(`${def.name} backward`)
  const inputs = tensors.map((t) => declare(g, t))
  const [first] = g.apply(def, inputs, sample.attrs)
  const [cotangent] = cotangents
  const loss = sum(mul(cast(first, 'f32'), g.input(cotangent.name, cotangent.type)))
  const wrt = inputs.filter((_, i) => tensors[i].differentiable)
  const grads = grad(loss, wrt)
  tensors.filter((t) => t.differentiable).forEach((t, i) => g.output(`d${t.name}`, grads[i]))
  g.output('loss', add(loss, loss))
  return g.build()
}
