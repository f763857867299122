import type { Program, Session } from '@mirastral/engine'
import type { ModelConfig } from './config.js'
import { ropeTable } from './rope-tables.js'
import type { Weights } from './weights.js'

/**
 * Gives a session the constants that a program needs and the session does not have yet: weights, one at a time, and
 * rotary tables. `bound` remembers them; keep one set per session. Constants that are none of the model's are left to
 * the caller.
 */
export async function bindConstants(
  session: Session,
  program: Program,
  model: { readonly config: ModelConfig; readonly weights: Weights },
  bound = new Set<string>(),
): Promise<void> {
  for (const { name, role } of program.inputs) {
    if (role !== 'constant' || bound.has(name)) continue
    const tensor = model.weights.types.has(name) ? await model.weights.get(name) : ropeTable(model.config, name)
    if (!tensor) continue
    await session.bind(name, tensor, { transfer: true })
    bound.add(name)
  }
}
