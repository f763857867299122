import type { TensorType } from '../../../ir/tensor-type.js'
import { cType } from './launch.js'

export interface CompilerDefines {
  readonly T: string
  readonly HEAD_DIM: number
  readonly WARPS: number
}

interface TileLaunch {
  readonly defines: CompilerDefines
  readonly grid: [number, number, number]
  readonly sharedBytes: number
}

/** Largest head whose accumulators fit the registers of flash-attention.cu. */
const MAX_HEAD = 128
/** Rows of the streamed tiles in flash-attention.cu. */
const TILE = 64
/** Query rows from which a block of eight warps keeps the device busy. */
const LONG = 512

/** The launches of flash-attention.cu for a shape; null where its tensor-core tiles do not fit. */
export function flashShapes(q: TensorType, kv: TensorType, scale: number) {
  const [batch, tokens, heads, headDim] = q.shape
  if ((q.dtype !== 'bf16' && q.dtype !== 'f16') || headDim % 16 !== 0 || headDim > MAX_HEAD || !(scale > 0)) return null
  const row = (headDim + 8) * 2
  const tile = (warps: number, blockHeads: number, rows: number, extra: number): TileLaunch => ({
    defines: { T: cType(q.dtype), HEAD_DIM: headDim, WARPS: warps },
    grid: [blockHeads, batch, Math.ceil(tokens / (16 * warps))],
    sharedBytes: rows * row + extra,
  })
  const forwardWarps = tokens >= LONG ? 8 : 4
  const streamed = 4 * TILE
  const delta = {
    ...tile(4, heads, 0, 0),
    grid: [Math.ceil((batch * tokens * heads) / 4), 1, 1] as [number, number, number],
  }
  return {
    forward: tile(forwardWarps, heads, 16 * forwardWarps + streamed, 0),
    delta,
    backwardKV: tile(4, kv.shape[2], 2 * 64 + streamed, 4 * TILE * 4),
    backwardQ: tile(4, heads, 2 * 64 + streamed, 0),
  }
}
