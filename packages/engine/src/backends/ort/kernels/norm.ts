import type { ReferenceTypes } from '../../../ops/define.js'
import type { RmsNormAttrs } from '../../../ops/norm.js'
import type { LowerContext } from '../lower.js'

export const normKernels = {
  rmsNorm({ onnx }: LowerContext, inputs: readonly string[], { eps }: RmsNormAttrs, types: ReferenceTypes) {
    const attributes = { axis: -1, epsilon: { float: eps }, stash_type: 1 }
    const [y, invRms] = onnx.nodeAll('SimplifiedLayerNormalization', inputs, attributes, { outputs: 2 })
    return [y, onnx.reshape(invRms, types.outputs[1].shape)]
  },
  /** dx = r (g - x (r² sum(g x) / width)) with g = dy weight. */
  rmsNormBackward(
    { onnx }: LowerContext,
    [dy, x, weight, invRms]: readonly string[],
    _attrs: object,
    types: ReferenceTypes,
  ) {
    const [, { shape }, , { shape: rows }] = types.inputs
    const r = onnx.reshape(invRms, [...rows, 1])
    const g = onnx.node('Mul', [dy, weight])
    const dot = onnx.node('ReduceSum', [onnx.node('Mul', [g, x]), onnx.int64s([-1])], { keepdims: 1 })
    const mean = onnx.node('Mul', [dot, onnx.float(1 / shape[shape.length - 1])])
    const factor = onnx.node('Mul', [mean, onnx.node('Mul', [r, r])])
    return [onnx.node('Mul', [onnx.node('Sub', [g, onnx.node('Mul', [x, factor])]), r])]
  },
}
