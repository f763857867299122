import { dequantizeNf4 } from '@mirastral/quant'
import { isNf4, PACKED_BLOCK, type ConstantPacking, type HostTensor } from '../backend.js'

/** A matrix [rows, columns] as `MatMulNBits` of ONNX Runtime reads it; columns are padded to whole blocks. */
export interface RoundedMatrix {
  /** [rows, blocks, PACKED_BLOCK * bits / 8], the earlier element in the low half of a byte. */
  readonly codes: Uint8Array
  /** [rows * blocks] */
  readonly scales: Float32Array
  /** The code that means zero, for 4 bits: [rows, ceil(blocks / 2)], the earlier block in the low half of a byte. */
  readonly zeros: Uint8Array | null
}

/** Sizes of the parts of a rounded matrix. */
export function roundedShapes(rows: number, columns: number, packing: Exclude<ConstantPacking, 'exact'>) {
  const blocks = Math.ceil(columns / PACKED_BLOCK)
  return {
    codes: [rows, blocks, packing === 'int8' ? PACKED_BLOCK : PACKED_BLOCK / 2],
    scales: [rows * blocks],
    zeros: [rows * Math.ceil(blocks / 2)],
  }
}

/** Rounds to 8 bits: value = (code - 128) * scale, the scale being a 127th of the block's largest magnitude. */
export function roundInt8(values: Float32Array, rows: number, columns: number): RoundedMatrix {
  const blocks = Math.ceil(columns / PACKED_BLOCK)
  const codes = new Uint8Array(rows * blocks * PACKED_BLOCK).fill(128)
  const scales = new Float32Array(rows * blocks)
  for (let block = 0; block < scales.length; block++) {
    const { start, end } = blockRange(block, blocks, columns)
    let extreme = 0
    for (let i = start; i < end; i++) {
      const magnitude = values[i] < 0 ? -values[i] : values[i]
      if (magnitude > extreme) extreme = magnitude
    }
    if (extreme === 0) continue
    scales[block] = extreme / 127
    const perScale = 127 / extreme
    // Positive, so that cutting off rounds down: many times faster than Math.round over billions of weights.
    for (let i = start; i < end; i++) codes[block * PACKED_BLOCK + i - start] = (values[i] * perScale + 128.5) | 0
  }
  return { codes, scales, zeros: null }
}

/** Parts of the block's range that the 16 codes of a block are spread over; the one with the least squared error is taken. */
const SPREADS = [1, 0.92, 0.84] as const

/** Rounds to 4 bits: value = (code - zero) * scale with a zero point for each block. */
export function roundInt4(values: Float32Array, rows: number, columns: number): RoundedMatrix {
  const blocks = Math.ceil(columns / PACKED_BLOCK)
  const codes = new Uint8Array((rows * blocks * PACKED_BLOCK) / 2)
  const scales = new Float32Array(rows * blocks)
  const zerosOfRow = Math.ceil(blocks / 2)
  const zeros = new Uint8Array(rows * zerosOfRow)
  for (let block = 0; block < scales.length; block++) {
    const { start, end } = blockRange(block, blocks, columns)
    const { scale, perScale, zero } = bestGrid(values, start, end)
    scales[block] = scale
    const [row, within] = [Math.floor(block / blocks), block % blocks]
    zeros[row * zerosOfRow + (within >> 1)] |= zero << (4 * (within % 2))
    for (let i = 0; i < PACKED_BLOCK; i++) {
      const code = start + i < end ? codeOf(values[start + i], perScale, zero) : zero
      codes[(block * PACKED_BLOCK + i) >> 1] |= code << (4 * (i % 2))
    }
  }
  return { codes, scales, zeros }
}

function blockRange(block: number, blocks: number, columns: number): { start: number; end: number } {
  const row = Math.floor(block / blocks)
  const start = row * columns + (block % blocks) * PACKED_BLOCK
  return { start, end: Math.min(start + PACKED_BLOCK, (row + 1) * columns) }
}

/** The nearest of the 16 codes. */
function codeOf(value: number, perScale: number, zero: number): number {
  const code = value * perScale + zero + 0.5
  return code <= 0 ? 0 : code >= 15 ? 15 : code | 0
}

interface Grid {
  readonly scale: number
  readonly perScale: number
  readonly zero: number
}

/** The range always holds zero, so that zero is exact. */
function bestGrid(values: Float32Array, start: number, end: number): Grid {
  let [low, high] = [0, 0]
  for (let i = start; i < end; i++) {
    if (values[i] < low) low = values[i]
    if (values[i] > high) high = values[i]
  }
  let best: Grid = { scale: 0, perScale: 0, zero: 8 }
  if (low === high) return best
  let least = Infinity
  for (const spread of SPREADS) {
    const scale = Math.fround(((high - low) * spread) / 15)
    const perScale = 1 / scale
    const zero = codeOf(-low * spread, perScale, 0)
    let error = 0
    for (let i = start; i < end; i++) {
      const off = values[i] - (codeOf(values[i], perScale, zero) - zero) * scale
      error += off * off
    }
    if (error < least) {
      least = error
      best = { scale, perScale, zero }
    }
  }
  return best
}

/** Rounds a bound constant. */
export function roundConstant(tensor: HostTensor, packing: Exclude<ConstantPacking, 'exact'>): RoundedMatrix {
  const [values, shape] = isNf4(tensor)
    ? [dequantizeNf4(tensor), tensor.shape]
    : [tensor.data as Float32Array, tensor.type.shape]
  const [rows, columns] = shape
  return packing === 'int8' ? roundInt8(values, rows, columns) : roundInt4(values, rows, columns)
}
