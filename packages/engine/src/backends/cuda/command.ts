import type { DType } from '../../ir/tensor-type.js'
import type { BufferId } from '../../planner/plan.js'
import type { KernelSource } from './compiler.js'

/** A place in a buffer of the plan. */
export interface Ref {
  readonly buffer: BufferId
  readonly offset: number
}

/** An argument of a kernel. Pointers say whether the kernel reads or writes through them; null is a null pointer. */
export type Arg =
  | { readonly kind: 'in' | 'out'; readonly ref: Ref | null }
  | { readonly kind: 'i32' | 'u32' | 'f32' | 'u64'; readonly value: number }
  | TableArg
  | { readonly kind: 'struct'; readonly words: readonly { readonly type: 'i32' | 'f32'; readonly value: number }[] }

/** A kernel parameter made of several: a struct of 8-byte slots, filled up with zeros. */
export interface TableArg {
  readonly kind: 'table'
  readonly entries: readonly Arg[]
  readonly slots: number
}

export const input = (ref: Ref | null): Arg => ({ kind: 'in', ref })
export const output = (ref: Ref | null): Arg => ({ kind: 'out', ref })
export const i32 = (value: number): Arg => ({ kind: 'i32', value })
export const u32 = (value: number): Arg => ({ kind: 'u32', value })
export const u64 = (value: number): Arg => ({ kind: 'u64', value })
export const f32 = (value: number): Arg => ({ kind: 'f32', value })
export const ints = (values: readonly number[]): Arg => ({
  kind: 'struct',
  words: values.map((value) => ({ type: 'i32', value })),
})

export interface Launch {
  readonly kind: 'launch'
  readonly source: KernelSource
  readonly entry: string
  readonly grid: readonly [number, number, number]
  readonly block: number
  readonly sharedBytes: number
  readonly args: readonly Arg[]
  /** How this launch joins others of its kind in one. */
  readonly group?: LaunchGroup
}

/** A kernel that takes a table of rows, one per tensor (the second grid axis), and what all rows share. */
export interface LaunchGroup {
  readonly entry: string
  readonly row: readonly Arg[]
  readonly rest: readonly Arg[]
}

/** d = alpha op(a) op(b) + c, row-major, d[m, n]; `c` may be `d`. */
export interface Gemm {
  readonly kind: 'gemm'
  readonly shape: GemmShape
  readonly a: Ref
  readonly b: Ref
  readonly c: Ref | null
  readonly d: Ref
  readonly alpha: number
}

export interface GemmShape {
  readonly m: number
  readonly n: number
  readonly k: number
  readonly transposeA: boolean
  readonly transposeB: boolean
  readonly lda: number
  readonly ldb: number
  readonly ldd: number
  readonly input: DType
  readonly output: DType
  /** Number of products, and the distance of their matrices in elements. */
  readonly batch: number
  readonly strideA: number
  readonly strideB: number
  readonly strideD: number
}

export interface Copy {
  readonly kind: 'copy'
  readonly from: Ref
  readonly to: Ref
  readonly bytes: number
}

export type Command = Launch | Gemm | Copy

/** What a command reads and writes. */
export function touched(command: Command): { reads: BufferId[]; writes: BufferId[] } {
  switch (command.kind) {
    case 'launch': {
      const of = (kind: 'in' | 'out', args: readonly Arg[]): BufferId[] =>
        args.flatMap((arg) => {
          if (arg.kind === 'table') return of(kind, arg.entries)
          return arg.kind === kind && arg.ref ? [arg.ref.buffer] : []
        })
      return { reads: of('in', command.args), writes: of('out', command.args) }
    }
    case 'gemm':
      return {
        reads: [command.a, command.b, ...(command.c ? [command.c] : [])].map((ref) => ref.buffer),
        writes: [command.d.buffer],
      }
    case 'copy':
      return { reads: [command.from.buffer], writes: [command.to.buffer] }
  }
}
