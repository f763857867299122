import type { OnnxBuilder, OnnxTensor, OnnxTypeName } from '@mirastral/engine'
import { sizeOf } from '@mirastral/engine'
import type { ParameterSpec } from '../parameters.js'
import { checkpointKey } from '../parameters.js'
import type { ExportedWeights } from './graph.js'
import { Q4_BLOCK, q4Sizes } from './q4.js'

/** How the linear layers of an exported model are stored. */
export type ExportDtype = 'fp32' | 'q4'

/** Bytes to be written after each other into the data files, in this order. */
export interface DataPiece {
  readonly key: string
  readonly form: 'dense' | 'codes' | 'scales'
  readonly tensor: OnnxTensor
}

/** A large tensor that starts on a page of its file can be mapped instead of copied; others only need their elements aligned. */
const alignmentOf = (bytes: number): number => (bytes >= 2 ** 20 ? 4096 : 64)
/** Browsers hold at most 2 GiB in one buffer. */
export const maxDataFileBytes = 2 ** 31 - 2 ** 24

/** Lays out the data files and gives the graph the names of its weights. */
export class WeightLayout implements ExportedWeights {
  readonly pieces: DataPiece[] = []
  private readonly specs: ReadonlyMap<string, ParameterSpec>
  private file = 0
  private offset = 0

  constructor(
    parameters: readonly ParameterSpec[],
    private readonly dtype: ExportDtype,
    /** Name of the graph's file; data files are called after it. */
    private readonly modelFile: string,
  ) {
    this.specs = new Map(parameters.map((spec) => [checkpointKey(spec), spec]))
  }

  get initializers(): OnnxTensor[] {
    return this.pieces.map(({ tensor }) => tensor)
  }

  get dataFiles(): number {
    return this.file + 1
  }

  dense(key: string): string {
    return this.place(key, 'dense', 'float32', this.shape(key), 4 * sizeOf(this.shape(key)))
  }

  linear(b: OnnxBuilder, module: string, x: string, bias: string | null): string {
    const key = `${module}.weight`
    const [out, input] = this.shape(key)
    if (this.dtype === 'fp32') {
      return b.node('Gemm', [x, this.dense(key), ...(bias ? [bias] : [])], { transB: 1 })
    }
    const { blocks, codeBytes } = q4Sizes(out, input)
    const codes = this.place(key, 'codes', 'uint8', [out, blocks, Q4_BLOCK / 2], codeBytes)
    const scales = this.place(key, 'scales', 'float32', [out * blocks], 4 * out * blocks)
    const attributes = { K: input, N: out, bits: 4, block_size: Q4_BLOCK }
    const y = b.node('MatMulNBits', [x, codes, scales], attributes, 'com.microsoft')
    return bias ? b.node('Add', [y, bias]) : y
  }

  private shape(key: string): readonly number[] {
    return this.specs.get(key)?.shape ?? []
  }

  private place(
    key: string,
    form: DataPiece['form'],
    type: OnnxTypeName,
    dims: readonly number[],
    bytes: number,
  ): string {
    const name = form === 'dense' ? key : `${key}.${form}`
    if (this.pieces.some(({ tensor }) => tensor.name === name)) return name
    const alignment = alignmentOf(bytes)
    const start = Math.ceil(this.offset / alignment) * alignment
    const next = start + bytes > maxDataFileBytes && start > 0
    if (next) this.file++
    const offset = next ? 0 : start
    const location = `${this.modelFile}_data${this.file === 0 ? '' : `_${this.file}`}`
    this.pieces.push({ key, form, tensor: { name, type, dims, raw: { location, offset, length: bytes } } })
    this.offset = offset + bytes
    return name
  }
}
