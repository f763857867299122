import { join } from 'node:path'
import type { Backend } from '@mirastral/engine'
import { Graph, i32, linear, ortBackend, referenceBackend } from '@mirastral/engine'
import type { ForwardContext, ModelConfig, WeightOptions, Weights } from '@mirastral/models'
import {
  architectureOf,
  bindConstants,
  checkpointWeights,
  forwardContext,
  openCheckpoint,
  outputEmbedding,
} from '@mirastral/models'
import type { Golden } from './golden.js'
import { fixtures } from './golden.js'

export const backends: Backend[] = [referenceBackend(), ortBackend({ threads: 2, worker: false })]

export interface Opened {
  readonly config: ModelConfig
  readonly weights: Weights
}

/** A golden model; in full precision unless told otherwise. */
export async function open(name: string, options: WeightOptions = { quantization: 'none' }): Promise<Opened> {
  const checkpoint = await openCheckpoint(join(fixtures, name))
  return { config: checkpoint.config, weights: checkpointWeights(checkpoint, options) }
}

/** Builds a program around a forward pass over [batch, tokens]. */
export function forwardGraph(
  { config, weights }: Opened,
  shape: readonly number[],
  adapt = (ctx: ForwardContext): ForwardContext => ctx,
) {
  const g = new Graph('forward')
  const ctx = adapt(forwardContext(g, weights.types))
  const hidden = architectureOf(config).forward(ctx, config, {
    ids: g.input('ids', i32(...shape)),
    positions: g.input('positions', i32(...shape)),
    segments: g.input('segments', i32(...shape)),
    maxPositions: shape[1],
  })
  return { g, hidden, head: ctx.parameter(outputEmbedding(config)) }
}

export function feeds(golden: Golden, part: string): Record<string, Int32Array> {
  return Object.fromEntries(['ids', 'positions', 'segments'].map((name) => [name, golden.i32(`${part}.${name}`)]))
}

export async function logitsOf(backend: Backend, model: Opened, golden: Golden, part: string): Promise<Float32Array> {
  const { g, hidden, head } = forwardGraph(model, golden.shape(`${part}.ids`))
  g.output('logits', linear(hidden, head))
  const program = g.build()
  const session = await backend.createSession()
  await bindConstants(session, program, model)
  const { logits } = await (await session.compile(program)).run(feeds(golden, part))
  await session.dispose()
  return logits as Float32Array
}
