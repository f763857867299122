import type { TensorType } from './tensor-type.js'

export type ValueId = number

export type AttrValue = number | boolean | string | null | readonly number[]
export type Attrs = Readonly<Record<string, AttrValue>>

/**
 * How a program gets the value: `input` is fed at every run, `constant` is bound once and never changes (frozen weights),
 * `state` lives on the device between runs and is replaced by the program's updates.
 */
export type Role = 'input' | 'constant' | 'state'

export interface ProgramInput {
  readonly role: Role
  readonly name: string
  readonly value: ValueId
}

export interface ProgramNode {
  readonly op: string
  readonly attrs: Attrs
  readonly inputs: readonly ValueId[]
  readonly outputs: readonly ValueId[]
  /** Where in the model the node comes from, as `layers.3/attention`. */
  readonly scope: string
}

/**
 * What becomes of a state after a run. `replace`: it takes the value. `append` (key-value caches): the state is
 * [capacity, batch, ...rest], the value [batch, rows, ...rest], and row `s` of sequence `b` is written at
 * `[index[b] + s, b]`, with `index` an i32[batch] program input.
 */
export interface ProgramUpdate {
  readonly state: string
  readonly value: ValueId
  readonly kind: 'replace' | 'append'
  readonly index?: ValueId
}

export interface ProgramOutput {
  readonly name: string
  readonly value: ValueId
}

/** An immutable tensor program in static single assignment form: nodes are in an order in which they may be executed. */
export interface Program {
  readonly name: string
  /** Types by value id. */
  readonly types: readonly TensorType[]
  readonly inputs: readonly ProgramInput[]
  readonly nodes: readonly ProgramNode[]
  readonly updates: readonly ProgramUpdate[]
  readonly outputs: readonly ProgramOutput[]
}

/** The values a program must compute: its outputs, its updates and their indices. */
export function resultsOf(program: Program): ValueId[] {
  const updates = program.updates.flatMap((u) => (u.index === undefined ? [u.value] : [u.value, u.index]))
  return [...program.outputs.map((o) => o.value), ...updates]
}
