import type { SafetensorsReader } from '@mirastral/safetensors'
import { toFloat32 } from '@mirastral/safetensors'
import { fourBitWeights, readFourBitTensor } from './bnb-checkpoint.js'
import type { QuantType } from './codebook.js'
import { dequantize4bit } from './dequantize.js'
import { QuantError } from './errors.js'
import type { FourBitTensor } from './tensor.js'
import { countElements } from './tensor.js'
import { expectedError } from './theory.js'

/** How far a quantized tensor is from its original, in units of the weights. */
export interface QuantizationError {
  quantType: QuantType
  blockSize: number
  elements: number
  /** Root mean square of the original weights. */
  weightRms: number
  meanAbs: number
  maxAbs: number
  rms: number
}

export interface LayerError extends QuantizationError {
  name: string
}

/** Elements compared at once: a multiple of every block size. */
const pieceElements = 2 ** 20

/** Compares a quantized tensor with its original weights, which `readOriginal` gives piece by piece as float32. */
export async function quantizationError(
  tensor: FourBitTensor,
  readOriginal: (start: number, end: number) => Promise<Float32Array> | Float32Array,
): Promise<QuantizationError> {
  const elements = countElements('quantizationError', tensor.shape)
  let sumSquares = 0
  let sumAbs = 0
  let sumErrorSquares = 0
  let maxAbs = 0
  for (let start = 0; start < elements; start += pieceElements) {
    const end = Math.min(start + pieceElements, elements)
    const original = await readOriginal(start, end)
    const restored = dequantize4bit(tensor, { start, end })
    for (let i = 0; i < restored.length; i++) {
      const error = Math.abs(original[i] - restored[i])
      sumSquares += original[i] * original[i]
      sumAbs += error
      sumErrorSquares += error * error
      maxAbs = Math.max(maxAbs, error)
    }
  }
  const count = Math.max(elements, 1)
  return {
    quantType: tensor.quantType,
    blockSize: tensor.blockSize,
    elements,
    weightRms: Math.sqrt(sumSquares / count),
    meanAbs: sumAbs / count,
    maxAbs,
    rms: Math.sqrt(sumErrorSquares / count),
  }
}

/**
 * Compares every 4-bit weight of a checkpoint with the same weight of its full-precision original, holding one 4-bit
 * tensor and one piece of weights at a time. Throws QuantError `malformed` where the original lacks one or its shape
 * differs.
 */
export async function* checkpointErrors(
  original: SafetensorsReader,
  quantized: SafetensorsReader,
): AsyncGenerator<LayerError, void> {
  for (const name of fourBitWeights(quantized).keys()) {
    const info = original.tensors.get(name)
    const tensor = await readFourBitTensor(quantized, name)
    if (info?.shape.join() !== tensor.shape.join()) {
      const got = info ? `[${info.shape.join(',')}]` : 'nothing'
      throw new QuantError(
        'malformed',
        `${original.path}: ${name} must have the shape [${tensor.shape.join(',')}], got ${got}`,
      )
    }
    const bytes = info.byteLength / Math.max(countElements(name, info.shape), 1)
    const error = await quantizationError(tensor, async (start, end) =>
      toFloat32(info.dtype, await original.readRange(name, start * bytes, end * bytes)),
    )
    yield { name, ...error }
  }
}

/**
 * A Markdown table: per layer the mean, root mean square and largest error relative to the RMS of the weights, and the
 * mean error that Gaussian weights would have (`expectedError`).
 */
export function formatErrorTable(rows: readonly LayerError[]): string {
  const expected = new Map<string, number>()
  const expectedMean = ({ quantType, blockSize }: LayerError): number => {
    const key = `${quantType} ${blockSize}`
    const known = expected.get(key) ?? expectedError(quantType, blockSize).meanAbs
    expected.set(key, known)
    return known
  }
  const percent = (value: number, rms: number): string => `${((100 * value) / (rms || 1)).toFixed(2)}%`
  const lines = rows.map((row) => {
    const { name, weightRms, meanAbs, rms, maxAbs } = row
    const errors = [meanAbs, rms, maxAbs].map((value) => percent(value, weightRms))
    return `| ${[name, weightRms.toPrecision(3), ...errors, percent(expectedMean(row), 1)].join(' | ')} |`
  })
  return [
    '| layer | weight RMS | mean error | RMS error | max error | mean error, Gaussian |',
    '|---|---:|---:|---:|---:|---:|',
    ...lines,
    '',
  ].join('\n')
}
