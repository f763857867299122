import type { Session } from '@mirastral/engine'
import { Graph, i32, linear, slice, sizeOf } from '@mirastral/engine'
import type { ModelConfig } from '@mirastral/models'
import { architectureOf, bindConstants, cacheStates, forwardContext, outputEmbedding } from '@mirastral/models'
import { describe, expect, it } from 'vitest'
import { cases, readGolden } from './golden.js'
import type { Opened } from './harness.js'
import { backends, open } from './harness.js'

const capacity = 32

/** The logits of the last of `tokens` new tokens, which stand after the `lengths` cached ones. */
function stepProgram({ config, weights }: Opened, tokens: number) {
  const g = new Graph(`step${tokens}`)
  const ctx = forwardContext(g, weights.types)
  const hidden = architectureOf(config).forward(ctx, config, {
    ids: g.input('ids', i32(1, tokens)),
    positions: g.input('positions', i32(1, tokens)),
    maxPositions: capacity,
    cache: { capacity, lengths: [g.input('lengths', i32(1))] },
  })
  const last = slice(hidden, { axis: 1, start: tokens - 1, end: tokens })
  g.output('logits', linear(last, ctx.parameter(outputEmbedding(config))))
  return g.build()
}

async function bindEmptyCache(session: Session, config: ModelConfig): Promise<void> {
  for (const [name, type] of cacheStates(config, capacity)) {
    await session.bind(name, { type, data: new Float32Array(sizeOf(type.shape)) })
  }
}

function best(logits: ArrayLike<number>): number {
  return Array.from(logits).reduce((top, x, i) => (x > logits[top] ? i : top), 0)
}

async function generate(session: Session, model: Opened, prompt: number[], count: number): Promise<number[]> {
  await bindEmptyCache(session, model.config)
  const run = async (ids: number[], start: number): Promise<number> => {
    const program = stepProgram(model, ids.length)
    await bindConstants(session, program, model)
    const executable = await session.compile(program)
    const { logits } = await executable.run({
      ids: Int32Array.from(ids),
      positions: Int32Array.from(ids, (_, i) => start + i),
      lengths: Int32Array.of(start),
    })
    await executable.dispose()
    return best(logits)
  }
  const tokens = [await run(prompt, 0)]
  while (tokens.length < count) tokens.push(await run([tokens[tokens.length - 1]], prompt.length + tokens.length - 1))
  return tokens
}

describe.each(backends)('with a key-value cache on the $name backend', (backend) => {
  it.each(cases)('%s generates, greedily, what Transformers generates', async (name) => {
    const golden = await readGolden(name)
    const model = await open(name)
    const session = await backend.createSession()
    const expected = [...golden.i32('generate.tokens')]
    const tokens = await generate(session, model, [...golden.i32('generate.prompt')], expected.length)
    await session.dispose()
    await model.weights.close()
    expect(tokens).toEqual(expected)
  })
})
