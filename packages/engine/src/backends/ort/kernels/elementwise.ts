import type { CastAttrs, FullAttrs, ScaleAttrs } from '../../../ops/elementwise.js'
import type { DType } from '../../../ir/tensor-type.js'
import type { OnnxTypeName } from '../onnx-proto.js'
import type { LowerContext } from '../lower.js'

/** An op that is one ONNX operator. */
const direct =
  (opType: string) =>
  ({ onnx }: LowerContext, inputs: readonly string[]): string[] => [onnx.node(opType, inputs)]

const ONNX_TYPE: Readonly<Record<DType, OnnxTypeName>> = {
  f32: 'float32',
  i32: 'int32',
  u8: 'uint8',
  bool: 'bool',
  // Lowering refuses values of these types before a kernel sees them.
  f16: 'float32',
  bf16: 'float32',
  nf4: 'float32',
}

export const elementwiseKernels = {
  add: direct('Add'),
  sub: direct('Sub'),
  mul: direct('Mul'),
  div: direct('Div'),
  maximum: direct('Max'),
  neg: direct('Neg'),
  exp: direct('Exp'),
  log: direct('Log'),
  sqrt: direct('Sqrt'),
  sigmoid: direct('Sigmoid'),
  tanh: direct('Tanh'),
  greater: direct('Greater'),
  equal: direct('Equal'),
  select: direct('Where'),
  detach: direct('Identity'),
  cast: ({ onnx }: LowerContext, [x]: readonly string[], { to }: CastAttrs) => [onnx.cast(x, ONNX_TYPE[to])],
  scale({ onnx }: LowerContext, [x]: readonly string[], { factor, offset }: ScaleAttrs) {
    const scaled = factor === 1 ? x : onnx.node('Mul', [x, onnx.float(factor)])
    return [offset === 0 && factor !== 1 ? scaled : onnx.node('Add', [scaled, onnx.float(offset)])]
  },
  full: ({ onnx }: LowerContext, _inputs: readonly string[], { value, dtype, shape }: FullAttrs) => {
    const filled = onnx.filled(shape, value)
    return [dtype === 'f32' ? filled : onnx.cast(filled, ONNX_TYPE[dtype])]
  },
  /** Reshapes to the value's own shape, computed from an element of `after`: nothing can merge or hoist it. */
  barrier(
    { onnx }: LowerContext,
    [x, after]: readonly string[],
    _attrs: object,
    types: { readonly inputs: readonly { readonly shape: readonly number[] }[] },
  ) {
    const first = onnx.node('Gather', [onnx.reshape(after, [-1]), onnx.int64s([0])])
    const zero = onnx.node('Mul', [onnx.cast(onnx.node('IsNaN', [first]), 'int64'), onnx.int64(0)])
    const shape = onnx.node('Add', [onnx.int64s(types.inputs[0].shape), zero])
    return [onnx.node('Reshape', [x, shape])]
  },
}
