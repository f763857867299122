import type { Graph, HostTensor, Value } from '@mirastral/engine'
import { f32 } from '@mirastral/engine'
import type { ModelConfig } from './config.js'
import { ropeFrequencies } from './rope.js'

/** Constants that are computed, not read: their names carry their number of rows. */
const tableName = /^rope\.(cos|sin)\.(\d+)$/

/** The cosine and sine tables f32 [rows, headDim / 2] of positions 0 to rows - 1, as constants of a graph. */
export function ropeTables(graph: Graph, config: ModelConfig, rows: number): { cos: Value; sin: Value } {
  const type = f32(rows, config.headDim / 2)
  return { cos: graph.constant(`rope.cos.${rows}`, type), sin: graph.constant(`rope.sin.${rows}`, type) }
}

/** The values of a table by its constant's name, or null if the name is not a table's. Angles are rounded to float32 first, as in Transformers. */
export function ropeTable(config: ModelConfig, name: string): HostTensor | null {
  const match = tableName.exec(name)
  if (!match) return null
  const rows = Number(match[2])
  const { inverseFrequencies, attentionFactor } = ropeFrequencies(config.rope, config.headDim)
  const turn = match[1] === 'cos' ? Math.cos : Math.sin
  const half = inverseFrequencies.length
  const data = Float32Array.from({ length: rows * half }, (_, i) => {
    const angle = Math.fround(Math.floor(i / half) * inverseFrequencies[i % half])
    return turn(angle) * attentionFactor
  })
  return { type: f32(rows, half), data }
}
