/** Elements of a row that share a scale. */
export const Q4_BLOCK = 32

/** Sizes of the 4-bit form of a matrix [rows, columns]: columns are padded to whole blocks. */
export function q4Sizes(rows: number, columns: number): { blocks: number; codeBytes: number } {
  const blocks = Math.ceil(columns / Q4_BLOCK)
  return { blocks, codeBytes: (rows * blocks * Q4_BLOCK) / 2 }
}

/**
 * Rounds a matrix [rows, columns] to 4 bits as the `MatMulNBits` operator of ONNX Runtime reads it without zero points:
 * value = (code - 8) * scale, blocks along a row, the earlier element in the low half of a byte. The scale maps the
 * block's largest magnitude, with its sign, to code 0, so that it is exact and all 16 codes are used.
 */
export function quantizeQ4(
  values: Float32Array,
  rows: number,
  columns: number,
): { codes: Uint8Array; scales: Float32Array } {
  const { blocks, codeBytes } = q4Sizes(rows, columns)
  // 0x88 is two codes of 8, which mean zero: the padding.
  const codes = new Uint8Array(codeBytes).fill(0x88)
  const scales = new Float32Array(rows * blocks)
  for (let block = 0; block < scales.length; block++) {
    const row = Math.floor(block / blocks)
    const start = row * columns + (block % blocks) * Q4_BLOCK
    const end = Math.min(start + Q4_BLOCK, (row + 1) * columns)
    let extreme = 0
    for (let i = start; i < end; i++) if (Math.abs(values[i]) > Math.abs(extreme)) extreme = values[i]
    const scale = extreme / -8
    scales[block] = scale
    if (scale === 0) continue
    for (let i = start; i < end; i++) {
      const code = Math.min(15, Math.max(0, Math.round(values[i] / scale) + 8))
      const at = (block * Q4_BLOCK) / 2 + ((i - start) >> 1)
      codes[at] = (i - start) % 2 === 0 ? (codes[at] & 0xf0) | code : (codes[at] & 0x0f) | (code << 4)
    }
  }
  return { codes, scales }
}
