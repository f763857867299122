import { join } from 'node:path'
import type { Backend } from '@mirastral/engine'
import { Graph, i32, linear } from '@mirastral/engine'
import {
  architectureOf,
  bindConstants,
  checkpointWeights,
  forwardContext,
  openCheckpoint,
  outputEmbedding,
} from '@mirastral/models'
import { describe, expect, it } from 'vitest'
import { referenceBackend } from '../../engine/src/backends/reference/backend.js'
import type { Golden } from './golden.js'
import { cases, disagreement, fixtures, readGolden } from './golden.js'

const backends: Backend[] = [referenceBackend()]

async function logitsOf(backend: Backend, folder: string, golden: Golden, part: string): Promise<Float32Array> {
  const checkpoint = await openCheckpoint(join(fixtures, folder))
  const { config } = checkpoint
  const weights = checkpointWeights(checkpoint, { quantization: 'none' })
  const shape = [...golden.shape(`${part}.ids`)]
  const g = new Graph('logits')
  const ctx = forwardContext(g, weights.types)
  const hidden = architectureOf(config).forward(ctx, config, {
    ids: g.input('ids', i32(...shape)),
    positions: g.input('positions', i32(...shape)),
    segments: g.input('segments', i32(...shape)),
    maxPositions: shape[1],
  })
  g.output('logits', linear(hidden, ctx.parameter(outputEmbedding(config))))
  const program = g.build()
  const session = await backend.createSession()
  await bindConstants(session, program, { config, weights })
  await weights.close()
  const executable = await session.compile(program)
  const input = (name: string) => golden.i32(`${part}.${name}`)
  const { logits } = await executable.run({
    ids: input('ids'),
    positions: input('positions'),
    segments: input('segments'),
  })
  await session.dispose()
  return logits as Float32Array
}

/** Rows of tokens that are not padding. */
function realRows(golden: Golden, part: string, logits: Float32Array): Float32Array {
  const segments = golden.i32(`${part}.segments`)
  const width = logits.length / segments.length
  return logits.filter((_, i) => segments[Math.floor(i / width)] !== 0)
}

describe.each(backends)('logits on the $name backend', (backend) => {
  describe.each(cases)('of %s', (name) => {
    it.each(['batch', 'left', 'packed'])('equal those of Transformers (%s)', async (part) => {
      const golden = await readGolden(name)
      const logits = await logitsOf(backend, name, golden, part)
      const expected = realRows(golden, part, golden.f32(`${part}.logits`))
      expect(disagreement(realRows(golden, part, logits), expected, 1e-4, 1e-4)).toBeLessThan(1)
    })
  })
})
