export { EngineError, BackendUnavailableError } from './errors.js'
export { Graph, Value } from './ir/graph.js'
export type {
  Program,
  ProgramInput,
  ProgramNode,
  ProgramOutput,
  ProgramUpdate,
  Role,
  Attrs,
  ValueId,
} from './ir/program.js'
export { bf16, bool, byteSize, f16, f32, formatType, i32, nf4, sameShape, sizeOf } from './ir/tensor-type.js'
export type { DType, Shape, TensorType } from './ir/tensor-type.js'
export { printProgram } from './ir/print.js'
export { verifyProgram } from './ir/verify.js'
export { grad, type GradOptions } from './autodiff/grad.js'
export {
  add,
  barrier,
  cast,
  detach,
  div,
  equal,
  exp,
  full,
  greater,
  log,
  maximum,
  mul,
  neg,
  scale,
  select,
  sigmoid,
  silu,
  sqrt,
  sub,
  tanh,
} from './ops/elementwise.js'
export { max, mean, sum, sumSquares, type ReduceOptions } from './ops/reduce.js'
export { broadcastTo, concat, reshape, slice, transpose } from './ops/movement.js'
export { linear, matmul } from './ops/matmul.js'
export { rmsNorm } from './ops/norm.js'
export { rope } from './ops/rope.js'
export { swiglu } from './ops/activation.js'
export { attention } from './ops/attention.js'
export { cachedAttention } from './ops/cached-attention.js'
export { embedding } from './ops/embedding.js'
export { crossEntropy, IGNORED, linearCrossEntropy, type RowLoss } from './ops/loss.js'
export { dropout } from './ops/random.js'
export { adamwStep, type AdamwAttrs, type AdamwInputs } from './ops/optim.js'
export { dequantize } from './ops/quant.js'
export { ops, type OpName } from './ops/index.js'
export type {
  Backend,
  CompileOptions,
  ConstantPacking,
  DenseTensor,
  Executable,
  HostTensor,
  NamePrefixes,
  RunResult,
  Session,
  TensorData,
} from './backends/backend.js'
export { referenceBackend, ReferenceSession } from './backends/reference/backend.js'
export { ortBackend, programToOnnx } from './backends/ort/backend.js'
export { OnnxBuilder } from './backends/ort/onnx-builder.js'
export {
  encodeModel,
  OnnxType,
  type OnnxModel,
  type OnnxTensor,
  type OnnxTypeName,
  type OnnxValueInfo,
} from './backends/ort/onnx-proto.js'
export { physicalCores } from './backends/ort/cores.js'
export type { OrtOptions } from './backends/ort/options.js'
export { cudaBackend, probeCuda, type CudaBackend, type CudaProbe } from './backends/cuda/backend.js'
export type { CudaOptions } from './backends/cuda/options.js'
