import { EngineError } from '../errors.js'
import type { Value } from '../ir/graph.js'
import type { Attrs } from '../ir/program.js'
import { formatType, isFloat, type DType, type TensorType } from '../ir/tensor-type.js'

/** What a derivative rule sees. Cotangents are null where the loss does not depend on the output. */
export interface VjpContext<A extends Attrs> {
  readonly inputs: readonly Value[]
  readonly outputs: readonly Value[]
  readonly attrs: A
  readonly cotangents: readonly (Value | null)[]
  /** For each input, whether its cotangent is wanted; a rule may return null for the others. */
  readonly needs: readonly boolean[]
}

/** Marks an op without a derivative, with the reason that `grad` reports. */
export interface NonDifferentiable {
  readonly nonDifferentiable: string
}

/** An input of a generated test: a type, and how its values are drawn (default: standard normal for floats). */
export interface SampleInput {
  readonly type: TensorType
  /** Explicit values, row-major. */
  readonly values?: readonly number[]
  /** Uniform in [low, high) (integers for integer types). */
  readonly range?: readonly [number, number]
  /** The op has no derivative with respect to this input by definition (as a seed or a label). */
  readonly frozen?: boolean
}

/** One generated test of an op. Inputs of one sample are drawn from a generator seeded by the op's name. */
export interface Sample<A extends Attrs> {
  readonly title: string
  readonly inputs: readonly SampleInput[]
  readonly attrs: A
  /** Forward only: the sample sits on a point where central differences say nothing (a kink, a saturated value). */
  readonly forwardOnly?: boolean
}

export interface ReferenceTypes {
  readonly inputs: readonly TensorType[]
  readonly outputs: readonly TensorType[]
}

/** Everything about an op, in one place. See docs/architecture.md, "Adding an op". */
export interface OpDef<A extends Attrs> {
  readonly name: string
  /** The only check of shapes and dtypes; throws {@link EngineError} with the op's name. */
  infer(inputs: readonly TensorType[], attrs: A): readonly TensorType[]
  /** The op's definition in float64: simple rather than fast. */
  reference(inputs: readonly Float64Array[], attrs: A, types: ReferenceTypes): readonly Float64Array[]
  /** The vector-Jacobian product, emitted as ordinary ops. */
  readonly vjp: ((ctx: VjpContext<A>) => readonly (Value | null)[]) | NonDifferentiable
  /** The tests of the op are generated from these. */
  samples(): readonly Sample<A>[]
}

/** Keeps an op's attribute type while checking the definition. */
export const defineOp = <A extends Attrs>(def: OpDef<A>): OpDef<A> => def

/** Emits an op with one output. */
export function emit<A extends Attrs>(def: OpDef<A>, inputs: readonly Value[], attrs: A): Value {
  const [output] = emitAll(def, inputs, attrs)
  if (!output) throw new EngineError(`internal: ${def.name} has no output`)
  return output
}

/** Emits an op with several outputs. */
export function emitAll<A extends Attrs>(def: OpDef<A>, inputs: readonly Value[], attrs: A): Value[] {
  const [first] = inputs
  if (!first) throw new EngineError(`internal: ${def.name} needs an input to know its graph`)
  return first.graph.apply(def, inputs, attrs)
}

/** Fails with `op: rule, got types`. */
export function expect(condition: boolean, op: string, rule: string, inputs: readonly TensorType[]): asserts condition {
  if (!condition) throw new EngineError(`${op}: ${rule}, got ${inputs.map(formatType).join(', ')}`)
}

/** The input types of an op with a fixed number of inputs. */
export function arity(op: string, inputs: readonly TensorType[], count: number): void {
  expect(inputs.length === count, op, `takes ${count} inputs`, inputs)
}

/** All inputs float and of one dtype; returns it. */
export function sameFloat(op: string, inputs: readonly TensorType[]): DType {
  const dtype = inputs[0]?.dtype ?? 'f32'
  expect(
    inputs.every((t) => t.dtype === dtype && isFloat(t.dtype)),
    op,
    'inputs must have one float dtype',
    inputs,
  )
  return dtype
}

/** The input at a position, checked to exist. */
export function at<T>(list: readonly T[], index: number): T {
  const item = list[index]
  if (item === undefined) throw new EngineError(`internal: nothing at index ${index} of ${list.length}`)
  return item
}

export const normal = (type: TensorType): SampleInput => ({ type })
export const values = (type: TensorType, list: readonly number[]): SampleInput => ({ type, values: list, frozen: true })
export const range = (type: TensorType, low: number, high: number): SampleInput => ({ type, range: [low, high] })
