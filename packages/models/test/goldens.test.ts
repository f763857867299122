import type { Backend, Value } from '@mirastral/engine'
import { add, f32, grad, i32, linear, linearCrossEntropy, reshape, scale, sum } from '@mirastral/engine'
import type { ForwardContext } from '@mirastral/models'
import { bindConstants } from '@mirastral/models'
import { describe, expect, it } from 'vitest'
import { expectAllClose, tolerances } from '../../engine/src/testing/index.js'
import type { Golden } from './golden.js'
import { cases, readGolden } from './golden.js'
import type { Opened } from './harness.js'
import { backends, feeds, forwardGraph, logitsOf, open } from './harness.js'

/** A context with the golden adapter, held in states, as PEFT computes it: W x + scale B (A x). */
function goldenAdapter(golden: Golden, states: Map<string, Value>) {
  return (ctx: ForwardContext): ForwardContext => ({
    ...ctx,
    linear: (name, x) => {
      const factor = (letter: string): Value => {
        const key = `lora.${name}.lora_${letter}.weight`
        const value = ctx.graph.state(key, f32(...golden.shape(key)))
        states.set(key, value)
        return value
      }
      return add(ctx.linear(name, x), scale(linear(linear(x, factor('A')), factor('B')), 2))
    },
  })
}

/** targets[t] = labels[t + 1]: what position t must predict. */
function shifted(labels: Int32Array, tokens: number): Int32Array {
  return labels.map((_, i) => (i % tokens === tokens - 1 ? -100 : labels[i + 1]))
}

async function lossAndGradients(
  backend: Backend,
  model: Opened,
  golden: Golden,
): Promise<Record<string, ArrayLike<number>>> {
  const shape = golden.shape('batch.ids')
  const states = new Map<string, Value>()
  const { g, hidden, head } = forwardGraph(model, shape, goldenAdapter(golden, states))
  const rows = shape[0] * shape[1]
  const targets = shifted(golden.i32('batch.labels'), shape[1])
  const { loss } = linearCrossEntropy(reshape(hidden, [rows, hidden.shape[2]]), head, g.input('targets', i32(rows)))
  const mean = scale(sum(loss), 1 / targets.filter((target) => target !== -100).length)
  g.output('loss', mean)
  const gradients = grad(mean, [...states.values()], { checkpoint: true })
  ;[...states.keys()].forEach((key, i) => g.output(key.replace('lora.', 'grad.'), gradients[i]))
  const program = g.build()
  const session = await backend.createSession()
  await bindConstants(session, program, model)
  for (const [key, { type }] of states) await session.bind(key, { type, data: golden.f32(key) })
  const results = await (await session.compile(program)).run({ ...feeds(golden, 'batch'), targets })
  await session.dispose()
  return results
}

/** Rows of tokens that are not padding. */
function realRows(golden: Golden, part: string, logits: Float32Array): Float32Array {
  const segments = golden.i32(`${part}.segments`)
  const width = logits.length / segments.length
  return logits.filter((_, i) => segments[Math.floor(i / width)] !== 0)
}

describe.each(backends)('on the $name backend', (backend) => {
  describe.each(cases)('%s', (name) => {
    it.each(['batch', 'left', 'packed'])('gives the logits of Transformers (%s)', async (part) => {
      const golden = await readGolden(name)
      const model = await open(name)
      const logits = await logitsOf(backend, model, golden, part)
      await model.weights.close()
      const expected = realRows(golden, part, golden.f32(`${part}.logits`))
      expectAllClose('logits', realRows(golden, part, logits), expected, tolerances.f32Model)
    })

    it('gives the loss, and the gradient of every LoRA matrix, of Transformers and PEFT', async () => {
      const golden = await readGolden(name)
      const model = await open(name)
      const { loss, ...gradients } = await lossAndGradients(backend, model, golden)
      await model.weights.close()
      expectAllClose('loss', loss, golden.f32('lora_loss'), tolerances.f32Model)
      expect(Object.keys(gradients).sort()).toEqual(golden.names('grad.').sort())
      for (const [key, gradient] of Object.entries(gradients)) {
        expectAllClose(key, gradient, golden.f32(key), tolerances.f32Model)
      }
    })
  })
})
