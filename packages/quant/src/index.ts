export type { Codebook, QuantType } from './codebook.js'
export { BLOCK_SIZES, FP4_VALUES, NF4_VALUES, codebook } from './codebook.js'
export type { ElementRange } from './dequantize.js'
export { dequantize4bit, dequantize4bitToBits, dequantizeNf4 } from './dequantize.js'
export type { QuantErrorKind } from './errors.js'
export { QuantError } from './errors.js'
export type { Encoder, QuantizeOptions } from './quantize.js'
export { createEncoder, quantize4bit, quantizeNf4 } from './quantize.js'
export type { FloatDtype, FloatSource, FourBitTensor, Nf4Tensor } from './tensor.js'
export { checkFourBitTensor } from './tensor.js'
export type { NestOptions, NestedAbsmax } from './double-quant.js'
export { NESTED_BLOCK_SIZE, nestAbsmax, unnestAbsmax } from './double-quant.js'
export { DYNAMIC_MAP } from './dynamic-map.js'
export { torchMean } from './torch-mean.js'
export type { FourBitEntryOptions } from './bnb-checkpoint.js'
export {
  fourBitEntries,
  fourBitStateEntries,
  fourBitWeights,
  readFourBitState,
  readFourBitTensor,
} from './bnb-checkpoint.js'
export type { QuantState } from './quant-state.js'
export { QuantPool, quantizeNf4Parallel } from './pool.js'
export type { QuantizeCheckpointOptions, QuantizedCheckpoint } from './quantize-checkpoint.js'
export { quantizeCheckpoint } from './quantize-checkpoint.js'
export { isConverted } from './converted-modules.js'
export type { LayerError, QuantizationError } from './error-analysis.js'
export { checkpointErrors, formatErrorTable, quantizationError } from './error-analysis.js'
export type { ExpectedError } from './theory.js'
export { expectedError, largestError } from './theory.js'
