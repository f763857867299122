import { InferError } from '../errors.js'
import type { ByteRange, Grammar, GrammarRules } from './grammar.js'

/** One instruction of the matcher, in the manner of a regular-expression machine with subroutines (Thompson 1968). */
export type Instruction =
  /** Reads one byte of the set, a bit for each of the 256 bytes. */
  | { op: 'byte'; set: Uint32Array }
  /** Goes on at both targets. */
  | { op: 'split'; first: number; second: number }
  | { op: 'jump'; target: number }
  /** Enters a rule; its `return` continues after this instruction. */
  | { op: 'call'; target: number }
  | { op: 'return' }
  /** The whole string may end here. */
  | { op: 'accept' }

export interface GrammarProgram {
  readonly instructions: readonly Instruction[]
  /**
   * For each instruction, how many calls deep a string must go at least before the rule that it belongs to can return, or
   * the program accept; Infinity where no finite string does.
   */
  readonly depthNeeded: Float64Array
}

/** Enough for schemas of a few hundred properties; bounds memory and the time of one step. */
const maxInstructions = 100_000

/**
 * Lays the rules out as one program that starts at instruction 0. Throws `InferError` when it becomes too long or when no
 * finite string follows the grammar.
 */
export function compileGrammar(grammar: GrammarRules): GrammarProgram {
  const compiler = new Compiler()
  compiler.emitGrammar(grammar.start)
  compiler.emit({ op: 'accept' })
  const addresses = new Map<string, number>()
  for (const [name, body] of grammar.rules) {
    addresses.set(name, compiler.instructions.length)
    compiler.emitGrammar(body)
    compiler.emit({ op: 'return' })
  }
  compiler.link(addresses)
  const { instructions } = compiler
  const depthNeeded = depthsNeeded(instructions)
  if (depthNeeded[0] === Infinity) {
    throw new InferError('MIRASTRAL_INFER_SCHEMA', 'jsonSchema: no finite JSON text is valid under this schema')
  }
  return { instructions, depthNeeded }
}

/** A least fixed point; going backwards, one pass settles everything but loops and recursion. */
function depthsNeeded(instructions: readonly Instruction[]): Float64Array {
  const needed = new Float64Array(instructions.length).fill(Infinity)
  for (let changed = true; changed;) {
    changed = false
    for (let pc = instructions.length - 1; pc >= 0; pc--) {
      const value = depthNeededAt(instructions, pc, needed)
      if (value >= needed[pc]) continue
      needed[pc] = value
      changed = true
    }
  }
  return needed
}

function depthNeededAt(instructions: readonly Instruction[], pc: number, needed: Float64Array): number {
  const instruction = instructions[pc]
  switch (instruction.op) {
    case 'accept':
    case 'return':
      return 0
    case 'byte':
      return instruction.set.some((word) => word !== 0) ? needed[pc + 1] : Infinity
    case 'jump':
      return needed[instruction.target]
    case 'split':
      return Math.min(needed[instruction.first], needed[instruction.second])
    case 'call': {
      const inner = needed[instruction.target]
      return isTailCall(instructions, pc) ? inner : Math.max(inner + 1, needed[pc + 1])
    }
  }
}

/** A call in the last place of a rule needs no return of its own, so long lists are not deep. */
export function isTailCall(instructions: readonly Instruction[], pc: number): boolean {
  return instructions[pc + 1].op === 'return'
}

class Compiler {
  readonly instructions: Instruction[] = []
  readonly #calls: { at: number; name: string }[] = []
  readonly #sets = new Map<string, Uint32Array>()

  emit(instruction: Instruction): number {
    if (this.instructions.length >= maxInstructions) {
      throw new InferError(
        'MIRASTRAL_INFER_SCHEMA',
        `jsonSchema: the schema may take at most ${maxInstructions} steps to match, got more; ` +
          'lower its length and item limits or split it',
      )
    }
    return this.instructions.push(instruction) - 1
  }

  link(addresses: ReadonlyMap<string, number>): void {
    for (const { at, name } of this.#calls) {
      const target = addresses.get(name)
      if (target === undefined) throw new Error(`internal: compileGrammar: unknown rule ${name}`)
      this.instructions[at] = { op: 'call', target }
    }
    for (let at = this.instructions.length - 1; at >= 0; at--) {
      const instruction = this.instructions[at]
      if (instruction.op === 'jump' && this.instructions[instruction.target].op === 'return') {
        this.instructions[at] = { op: 'return' }
      }
    }
  }

  emitGrammar(grammar: Grammar): void {
    switch (grammar.kind) {
      case 'bytes':
        for (const byte of grammar.bytes) this.emit({ op: 'byte', set: this.#set([[byte, byte]]) })
        return
      case 'byte':
        this.emit({ op: 'byte', set: this.#set(grammar.ranges) })
        return
      case 'sequence':
        for (const part of grammar.parts) this.emitGrammar(part)
        return
      case 'choice':
        this.#emitChoice(grammar.options)
        return
      case 'repeat':
        this.#emitRepeat(grammar.part, grammar.min, grammar.max)
        return
      case 'rule':
        this.#calls.push({ at: this.emit({ op: 'call', target: -1 }), name: grammar.name })
        return
    }
  }

  #emitChoice(options: readonly Grammar[]): void {
    const jumps: number[] = []
    options.forEach((option, i) => {
      const last = i === options.length - 1
      const split = last ? -1 : this.emit({ op: 'split', first: this.instructions.length + 1, second: -1 })
      this.emitGrammar(option)
      if (last) return
      jumps.push(this.emit({ op: 'jump', target: -1 }))
      this.instructions[split] = { op: 'split', first: split + 1, second: this.instructions.length }
    })
    if (options.length === 0) this.emit({ op: 'byte', set: this.#set([]) })
    for (const jump of jumps) this.instructions[jump] = { op: 'jump', target: this.instructions.length }
  }

  /** `part{min,max}`: min copies, then max - min nested optional ones, or a loop. */
  #emitRepeat(part: Grammar, min: number, max: number): void {
    for (let i = 0; i < min; i++) this.emitGrammar(part)
    if (max === Infinity) {
      const split = this.emit({ op: 'split', first: this.instructions.length + 1, second: -1 })
      this.emitGrammar(part)
      this.emit({ op: 'jump', target: split })
      this.instructions[split] = { op: 'split', first: split + 1, second: this.instructions.length }
      return
    }
    const splits: number[] = []
    for (let i = min; i < max; i++) {
      splits.push(this.emit({ op: 'split', first: this.instructions.length + 1, second: -1 }))
      this.emitGrammar(part)
    }
    for (const at of splits) this.instructions[at] = { op: 'split', first: at + 1, second: this.instructions.length }
  }

  #set(ranges: readonly ByteRange[]): Uint32Array {
    const key = ranges.join(';')
    const known = this.#sets.get(key)
    if (known !== undefined) return known
    const set = new Uint32Array(8)
    for (const [from, to] of ranges) for (let b = from; b <= to; b++) set[b >> 5] |= 1 << (b & 31)
    this.#sets.set(key, set)
    return set
  }
}
