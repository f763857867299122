import type { AttrValue, Program, ValueId } from './program.js'
import { formatType } from './tensor-type.js'

/**
 * The program as text, one node per line, stable across runs:
 *
 * ```text
 * program double {
 *   %0 = input x: f32[2,3]
 *   %1 = add(%0, %0): f32[2,3]
 *   output y = %1
 * }
 * ```
 */
export function printProgram(program: Program): string {
  const typeOf = (id: ValueId): string => {
    const type = program.types[id]
    return type ? formatType(type) : '?'
  }
  const list = (ids: readonly ValueId[]): string => ids.map((id) => `%${id}`).join(', ')
  const lines = [
    ...program.inputs.map((i) => `%${i.value} = ${i.role} ${i.name}: ${typeOf(i.value)}`),
    ...program.nodes.map((node) => {
      const attrs = Object.entries(node.attrs).map(([key, value]) => `, ${key}=${printAttr(value)}`)
      const scope = node.scope ? `  # ${node.scope}` : ''
      const types = node.outputs.map(typeOf).join(', ')
      return `${list(node.outputs)} = ${node.op}(${list(node.inputs)}${attrs.join('')}): ${types}${scope}`
    }),
    ...program.updates.map((u) =>
      u.index === undefined ? `update ${u.state} = %${u.value}` : `append ${u.state}[%${u.index}] = %${u.value}`,
    ),
    ...program.outputs.map((o) => `output ${o.name} = %${o.value}`),
  ]
  return `program ${program.name} {\n${lines.map((line) => `  ${line}`).join('\n')}\n}`
}

const printAttr = (value: AttrValue): string => (Array.isArray(value) ? `[${value.join(',')}]` : String(value))
