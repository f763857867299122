import { ReferenceSession } from '../backends/reference/backend.js'
import type { SamplePrograms, SampleTensor } from './sample-program.js'
import { expectAllClose } from './all-close.js'
import { tolerances } from './tolerances.js'

const STEP = 1e-4

type Feeds = Record<string, Float64Array>

const feedsOf = (tensors: readonly SampleTensor[]): Feeds =>
  Object.fromEntries(tensors.filter((t) => t.fed).map((t) => [t.name, t.exact]))

/** A reference session with the sample's constants bound. */
export function sessionFor(sample: SamplePrograms): ReferenceSession {
  const session = new ReferenceSession()
  for (const t of sample.tensors) if (!t.fed) session.bindExact(t.name, { dtype: 'f32', shape: t.type.shape }, t.exact)
  return session
}

/**
 * Checks the derivative rule of a sample: each element of each gradient equals the central difference of
 * sum(output * cotangent) in float64.
 */
export function checkVjp(sample: SamplePrograms): void {
  const { backward, forward, tensors, cotangents } = sample
  if (!backward) return
  const session = sessionFor(sample)
  const feeds = feedsOf(tensors)
  const gradients = session.evaluate(backward, { ...feeds, ...feedsOf(cotangents.slice(0, 1)) })
  const lossAt = (name: string, index: number, delta: number): number => {
    const moved = (feeds[name] ?? new Float64Array()).slice()
    moved[index] += delta
    const { y0 } = session.evaluate(forward, { ...feeds, [name]: moved })
    return y0.reduce((total, y, i) => total + y * cotangents[0].exact[i], 0)
  }
  for (const t of tensors.filter((tensor) => tensor.differentiable)) {
    const differences = t.exact.map((_, i) => (lossAt(t.name, i, STEP) - lossAt(t.name, i, -STEP)) / (2 * STEP))
    expectAllClose(
      `${sample.title}, derivative of ${t.name}`,
      gradients[`d${t.name}`],
      differences,
      tolerances.differences,
    )
  }
}
