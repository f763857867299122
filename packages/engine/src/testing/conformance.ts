import type { Backend, Session, TensorData } from '../backends/backend.js'
import type { Attrs, Program } from '../ir/program.js'
import { verifyProgram } from '../ir/verify.js'
import type { OpDef } from '../ops/define.js'
import { opByName, ops } from '../ops/index.js'
import { expectAllClose } from './all-close.js'
import { checkVjp, sessionFor } from './check-vjp.js'
import { samplePrograms, type SamplePrograms, type SampleTensor } from './sample-program.js'
import { tolerances, type Tolerance } from './tolerances.js'

/** Every sample of every op, as programs. */
export function allSamples(): SamplePrograms[] {
  return Object.keys(ops).flatMap((name) => {
    const def = opByName(name)
    return def ? def.samples().map((sample) => samplePrograms(def, sample)) : []
  })
}

/** Checks the definitions themselves: programs verify, and derivative rules equal central differences. */
export function checkDefinition(sample: SamplePrograms): void {
  const registry = ops as unknown as Readonly<Record<string, OpDef<Attrs>>>
  verifyProgram(sample.forward, registry)
  if (sample.backward) verifyProgram(sample.backward, registry)
  checkVjp(sample)
}

const feedsOf = (tensors: readonly SampleTensor[]): Record<string, TensorData> =>
  Object.fromEntries(tensors.flatMap((t) => (t.fed && 'data' in t.host ? [[t.name, t.host.data]] : [])))

async function compare(
  session: Session,
  program: Program,
  sample: SamplePrograms,
  tolerance: Tolerance,
): Promise<void> {
  const tensors = [...sample.tensors, ...sample.cotangents]
  const declared = new Set(program.inputs.map((i) => i.name))
  const used = tensors.filter((t) => declared.has(t.name))
  const exact = Object.fromEntries(used.filter((t) => t.fed).map((t) => [t.name, t.exact]))
  const expected = sessionFor(sample).evaluate(program, exact)
  for (const t of used) if (!t.fed) await session.bind(t.name, t.host)
  const executable = await session.compile(program)
  const actual = await executable.run(feedsOf(used))
  await executable.dispose()
  for (const [name, values] of Object.entries(expected)) {
    expectAllClose(`${session.backend}, ${sample.title}, ${program.name} ${name}`, actual[name], values, tolerance)
  }
}

/** Checks a backend against the reference on one sample: outputs and, where there is one, the derivative. */
export async function checkBackend(
  backend: Backend,
  sample: SamplePrograms,
  tolerance: Tolerance = tolerances.f32,
): Promise<void> {
  const session = await backend.createSession()
  try {
    await compare(session, sample.forward, sample, tolerance)
    if (sample.backward) await compare(session, sample.backward, sample, tolerance)
  } finally {
    await session.dispose()
  }
}
