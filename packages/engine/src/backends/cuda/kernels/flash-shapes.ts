import type { TensorType } from '../../../ir/tensor-type.js'
import type { KernelSource } from '../compiler.js'
import { cType } from './launch.js'

/** A launch of one of the attention files on tensor cores. */
export interface TileLaunch {
  readonly source: KernelSource
  readonly grid: [number, number, number]
  readonly block: number
  readonly sharedBytes: number
}

export interface FlashLaunches {
  readonly forward: TileLaunch
  readonly delta: TileLaunch
  readonly backwardKV: TileLaunch
  readonly backwardQ: TileLaunch
}

/** Largest head whose accumulators fit the registers. */
const MAX_HEAD = 128
/** Rows of the streamed tiles. */
const TILE = 64
/** Warps of a block of flash-attention.cu, each with 16 rows. */
const WARPS = 4
const ROW_STATISTICS_BYTES = 4 * TILE * 4

/** The launches of attention on tensor cores for a shape; null where their tiles do not fit. */
export function flashLaunches(
  q: TensorType,
  kv: TensorType,
  scale: number,
  architecture: number,
): FlashLaunches | null {
  const [batch, tokens, heads, headDim] = q.shape
  if ((q.dtype !== 'bf16' && q.dtype !== 'f16') || headDim % 16 !== 0 || headDim > MAX_HEAD || !(scale > 0)) return null
  const onWarpGroups = architecture === 90 && headDim % TILE === 0
  const defines = { T: cType(q.dtype), HEAD_DIM: headDim }
  const perWarp = { file: 'flash-attention', defines: { ...defines, WARPS } }
  const source = onWarpGroups ? { file: 'wgmma-attention', defines } : perWarp
  // Padded rows for ldmatrix, or swizzled tiles aligned to 1024 bytes.
  const tileBytes = onWarpGroups ? TILE * headDim * 2 : TILE * (headDim + 8) * 2
  const slack = onWarpGroups ? 1024 : 0
  const blocks = Math.ceil(tokens / TILE)
  const launch = (blockHeads: number, tiles: number, extra: number): TileLaunch => ({
    source,
    grid: [blockHeads, batch, blocks],
    block: 32 * WARPS,
    sharedBytes: tiles * tileBytes + extra + slack,
  })
  return {
    forward: launch(heads, onWarpGroups ? 3 : 5, 0),
    delta: {
      source: perWarp,
      grid: [Math.ceil((batch * tokens * heads) / (2 * WARPS)), 1, 1],
      block: 32 * WARPS,
      sharedBytes: 0,
    },
    backwardKV: launch(kv.shape[2], 6, ROW_STATISTICS_BYTES),
    backwardQ: launch(heads, onWarpGroups ? 4 : 6, 0),
  }
}
