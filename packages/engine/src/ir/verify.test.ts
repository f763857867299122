import { expect, test } from 'vitest'
import type { Attrs, Program } from './program.js'
import { ops } from '../ops/index.js'
import type { OpDef } from '../ops/define.js'
import { f32 } from './tensor-type.js'
import { verifyProgram } from './verify.js'

const program: Program = {
  name: 'p',
  types: [f32(2), f32(2), f32(2)],
  inputs: [
    { role: 'input', name: 'a', value: 0 },
    { role: 'state', name: 's', value: 1 },
  ],
  nodes: [{ op: 'add', attrs: {}, inputs: [0, 1], outputs: [2], scope: '' }],
  updates: [{ state: 's', value: 2, kind: 'replace' }],
  outputs: [{ name: 'y', value: 2 }],
}
const registry = ops as unknown as Readonly<Record<string, OpDef<Attrs>>>

test('a sound program passes', () => {
  expect(() => verifyProgram(program, registry)).not.toThrow()
})

test.each<[string, Partial<Program>, string]>([
  ['a use before the definition', { nodes: [{ ...program.nodes[0], inputs: [0, 2] }] }, 'uses %2 before it is defined'],
  ['a second definition', { nodes: [{ ...program.nodes[0], outputs: [1] }] }, 'defines %1 twice'],
  [
    'two inputs of one name',
    { inputs: [program.inputs[0], { ...program.inputs[1], name: 'a' }] },
    "two inputs are named 'a'",
  ],
  ['an unknown op', { nodes: [{ ...program.nodes[0], op: 'nonsense' }] }, "unknown op 'nonsense'"],
  ['a wrong type', { types: [f32(2), f32(2), f32(3)] }, 'output 0 is f32[3], infer says f32[2]'],
  ['a double update', { updates: [program.updates[0], program.updates[0]] }, "state 's' is updated twice"],
  ['an update of an input', { updates: [{ ...program.updates[0], state: 'a' }] }, "update of unknown state 'a'"],
])('%s is an internal error', (_title, change, message) => {
  expect(() => verifyProgram({ ...program, ...change }, registry)).toThrow(message)
})
