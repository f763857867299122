import { EngineError } from '../errors.js'
import type { Program, ProgramInput } from '../ir/program.js'
import { formatType, sizeOf, type TensorType } from '../ir/tensor-type.js'
import type { NamePrefixes, TensorData } from './backend.js'

/** The type of a program input. */
export function typeOfInput(program: Program, input: ProgramInput): TensorType {
  const type = program.types[input.value]
  if (!type) throw new EngineError(`internal: input ${input.name} has no type`)
  return type
}

/** Checks what a run is fed: every declared input, of the right size, and nothing else. */
export function checkFeeds(program: Program, feeds: Readonly<Record<string, TensorData>>): void {
  const inputs = program.inputs.filter((i) => i.role === 'input')
  const names = new Set(inputs.map((i) => i.name))
  const unknown = Object.keys(feeds).filter((name) => !names.has(name))
  if (unknown.length > 0) {
    const known = [...names].join(', ') || 'none'
    throw new EngineError(`run ${program.name}: no such input: ${unknown.join(', ')}; the inputs are ${known}`)
  }
  for (const input of inputs) {
    const type = typeOfInput(program, input)
    const data = feeds[input.name]
    if (!data) throw new EngineError(`run ${program.name}: input '${input.name}' ${formatType(type)} is missing`)
    if (data.length !== sizeOf(type.shape)) {
      throw new EngineError(
        `run ${program.name}: input '${input.name}' is ${formatType(type)}, got ${data.length} elements`,
      )
    }
  }
}

/** Checks that a tensor bound to a session can serve as a program's constant or state: the shape must be equal. */
export function checkBound(program: Program, input: ProgramInput, bound: TensorType | undefined): void {
  const type = typeOfInput(program, input)
  if (!bound) {
    throw new EngineError(`run ${program.name}: ${input.role} '${input.name}' ${formatType(type)} is not bound`)
  }
  if (bound.shape.join() !== type.shape.join()) {
    throw new EngineError(
      `run ${program.name}: ${input.role} '${input.name}' is ${formatType(type)}, bound is ${formatType(bound)}`,
    )
  }
}

/** The name under which a state is bound for one run. */
export function boundName(name: string, names: NamePrefixes): string {
  for (const [from, to] of Object.entries(names)) if (name.startsWith(from)) return to + name.slice(from.length)
  return name
}
