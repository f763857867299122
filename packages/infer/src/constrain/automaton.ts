import { InferError } from '../errors.js'
import { isTailCall } from './program.js'
import type { GrammarProgram } from './program.js'

/** The calls that a thread still has to return from, innermost first. Equal stacks are the same object. */
interface Stack {
  readonly id: number
  readonly depth: number
  readonly returnTo: number
  readonly parent: Stack | undefined
}

interface Thread {
  readonly pc: number
  readonly stack: Stack | undefined
}

/** Where a byte string has led to: all threads that are still alive. */
export interface State {
  /** Whether the string may end here. */
  readonly accepting: boolean
  readonly threads: readonly Thread[]
  /** The state after each byte: undefined where it is not known yet, null where the byte may not come. */
  readonly next: (State | null | undefined)[]
}

/** Calls; about 80 levels of JSON. More than people write, and a bound for what a model may open. */
const maxDepth = 256
/** What is remembered before the cache is emptied; a state takes about 2 KiB. */
const maxStates = 4096
/** Thread steps between two tokens before the schema counts as too ambiguous: about half a second. */
const maxWork = 500_000
/** More than the longest program, so that an instruction and a stack make one number. */
const pcLimit = 2 ** 17

/**
 * Follows a grammar byte by byte. Sets of threads are turned into states of a deterministic automaton as they are met and
 * kept, so bytes that were seen before cost one look-up.
 */
export class Automaton {
  readonly #program: GrammarProgram
  #states = new Map<string, State>()
  #stacks = new Map<number, Stack>()
  #nextStackId = 1
  #work = 0

  constructor(program: GrammarProgram) {
    this.#program = program
  }

  start(): State {
    const threads = new Map<number, Thread>()
    this.#follow(0, undefined, threads)
    return this.#state(threads)
  }

  /** The state after one more byte; null when no string of the language goes on like this. */
  step(state: State, byte: number): State | null {
    const known = state.next[byte]
    if (known !== undefined) return known
    const threads = new Map<number, Thread>()
    for (const { pc, stack } of state.threads) {
      this.#spend()
      const instruction = this.#program.instructions[pc]
      if (instruction.op !== 'byte' || ((instruction.set[byte >> 5] >>> (byte & 31)) & 1) === 0) continue
      this.#follow(pc + 1, stack, threads)
    }
    const next = threads.size === 0 ? null : this.#state(threads)
    state.next[byte] = next
    return next
  }

  /**
   * To be called between tokens: allows the next amount of work. When too many states are remembered they are forgotten,
   * and the state to go on with is a copy without memory; otherwise it is `state` itself.
   */
  rest(state: State): State {
    this.#work = 0
    if (this.#states.size <= maxStates) return state
    this.#states = new Map()
    this.#stacks = new Map()
    return { ...state, next: new Array<State | null | undefined>(256) }
  }

  /** Adds the threads that wait for a byte, or accept, after the instructions that read nothing. */
  #follow(from: number, stackFrom: Stack | undefined, threads: Map<number, Thread>): void {
    const pending: Thread[] = [{ pc: from, stack: stackFrom }]
    for (let thread = pending.pop(); thread !== undefined; thread = pending.pop()) {
      const { pc, stack } = thread
      const key = (stack?.id ?? 0) * pcLimit + pc
      if (threads.has(key) || (stack?.depth ?? 0) + this.#program.depthNeeded[pc] > maxDepth) continue
      this.#spend()
      threads.set(key, thread)
      const instruction = this.#program.instructions[pc]
      switch (instruction.op) {
        case 'byte':
        case 'accept':
          break
        case 'jump':
          pending.push({ pc: instruction.target, stack })
          break
        case 'split':
          pending.push({ pc: instruction.second, stack }, { pc: instruction.first, stack })
          break
        case 'call':
          pending.push({ pc: instruction.target, stack: this.#push(pc, stack) })
          break
        case 'return':
          if (stack === undefined) throw new Error('internal: Automaton: return without a call')
          pending.push({ pc: stack.returnTo, stack: stack.parent })
          break
      }
    }
  }

  #push(callAt: number, parent: Stack | undefined): Stack | undefined {
    if (parent !== undefined && isTailCall(this.#program.instructions, callAt)) return parent
    const returnTo = callAt + 1
    const key = (parent?.id ?? 0) * pcLimit + returnTo
    const known = this.#stacks.get(key)
    if (known !== undefined) return known
    const stack = { id: this.#nextStackId++, depth: (parent?.depth ?? 0) + 1, returnTo, parent }
    this.#stacks.set(key, stack)
    return stack
  }

  #state(followed: ReadonlyMap<number, Thread>): State {
    const { instructions } = this.#program
    const waits = (pc: number): boolean => instructions[pc].op === 'byte' || instructions[pc].op === 'accept'
    const live = [...followed].filter(([, { pc }]) => waits(pc))
    const key = live
      .map(([k]) => k)
      .sort()
      .join()
    const known = this.#states.get(key)
    if (known !== undefined) return known
    const threads = live.map(([, thread]) => thread)
    const accepting = threads.some(({ pc }) => instructions[pc].op === 'accept')
    const state: State = { accepting, threads, next: new Array<State | null | undefined>(256) }
    this.#states.set(key, state)
    return state
  }

  #spend(): void {
    if (++this.#work <= maxWork) return
    throw new InferError(
      'MIRASTRAL_INFER_SCHEMA',
      'jsonSchema: the schema is too ambiguous to be followed while generating; simplify its patterns and alternatives',
    )
  }
}
