import { internal } from '../errors.js'
import type { Program, ValueId } from './program.js'
import { formatType, sameType } from './tensor-type.js'
import type { OpDef } from '../ops/define.js'
import type { Attrs } from './program.js'

/**
 * Checks that every value is defined exactly once before it is used, that names are unique, and that updates and
 * outputs refer to existing values. With a registry of op definitions every node's types are inferred again.
 */
export function verifyProgram(program: Program, ops?: Readonly<Record<string, OpDef<Attrs>>>): void {
  const defined = new Set<ValueId>()
  const define = (id: ValueId, what: string): void => {
    if (defined.has(id)) throw internal(`program ${program.name}: ${what} defines %${id} twice`)
    if (program.types[id] === undefined)
      throw internal(`program ${program.name}: ${what} defines %${id} without a type`)
    defined.add(id)
  }
  const use = (id: ValueId, what: string): void => {
    if (!defined.has(id)) throw internal(`program ${program.name}: ${what} uses %${id} before it is defined`)
  }
  const names = new Set<string>()
  for (const input of program.inputs) {
    if (names.has(input.name)) throw internal(`program ${program.name}: two inputs are named '${input.name}'`)
    names.add(input.name)
    define(input.value, `input ${input.name}`)
  }
  program.nodes.forEach((node, position) => {
    const what = `node ${position} (${node.op})`
    node.inputs.forEach((id) => use(id, what))
    node.outputs.forEach((id) => define(id, what))
    if (ops) verifyTypes(program, position, ops)
  })
  const states = new Set(program.inputs.filter((i) => i.role === 'state').map((i) => i.name))
  const updated = new Set<string>()
  for (const update of program.updates) {
    if (!states.has(update.state)) throw internal(`program ${program.name}: update of unknown state '${update.state}'`)
    if (updated.has(update.state)) throw internal(`program ${program.name}: state '${update.state}' is updated twice`)
    updated.add(update.state)
    use(update.value, `update of ${update.state}`)
    if (update.index !== undefined) use(update.index, `index of ${update.state}`)
  }
  for (const output of program.outputs) use(output.value, `output ${output.name}`)
}

function verifyTypes(program: Program, position: number, ops: Readonly<Record<string, OpDef<Attrs>>>): void {
  const node = program.nodes[position]
  const def = node && ops[node.op]
  if (!node || !def) throw internal(`program ${program.name}: node ${position} has an unknown op '${node?.op}'`)
  const typeOf = (id: ValueId) => program.types[id] ?? { dtype: 'f32' as const, shape: [] }
  const expected = def.infer(node.inputs.map(typeOf), node.attrs)
  expected.forEach((type, i) => {
    const actual = typeOf(node.outputs[i] ?? -1)
    if (!sameType(type, actual)) {
      throw internal(
        `node ${position} (${node.op}): output ${i} is ${formatType(actual)}, infer says ${formatType(type)}`,
      )
    }
  })
}
