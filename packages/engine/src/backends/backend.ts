import type { Nf4Tensor } from '@mirastral/quant'
import type { Program } from '../ir/program.js'
import type { TensorType } from '../ir/tensor-type.js'

/** Elements of a dense tensor: f32 Float32Array, f16 and bf16 bits Uint16Array, i32 Int32Array, u8 and bool Uint8Array. */
export type TensorData = Float32Array | Uint16Array | Int32Array | Uint8Array

export interface DenseTensor {
  readonly type: TensorType
  /** Row-major. */
  readonly data: TensorData
}

/** What a session can be given: a dense tensor, or NF4 codes with their scales. */
export type HostTensor = DenseTensor | Nf4Tensor

export const isNf4 = (tensor: HostTensor): tensor is Nf4Tensor => 'codes' in tensor

/** A way of running programs. Creating one never fails; `createSession` says what is missing. */
export interface Backend {
  readonly name: string
  /** @throws BackendUnavailableError if the backend cannot run on this machine. */
  createSession(): Promise<Session>
}

/**
 * Named tensors on one device, and the programs compiled to use them. Constants and states are shared by name between
 * all programs of a session. Calls are executed one after the other, in the order in which they are made.
 */
export interface Session {
  readonly backend: string
  /**
   * Gives a constant or a state its value. With `transfer` the session may take the buffers over, and the caller must
   * not use them again; otherwise it copies them.
   */
  bind(name: string, tensor: HostTensor, options?: { readonly transfer?: boolean }): Promise<void>
  /** The current value of a state or a dense constant. @throws EngineError if nothing is bound under the name. */
  read(name: string): Promise<DenseTensor>
  /** Forgets a tensor. */
  unbind(name: string): Promise<void>
  compile(program: Program, options?: CompileOptions): Promise<Executable>
  /** Releases everything. */
  dispose(): Promise<void>
}

/**
 * How the weight of a `linear` is laid out for a program that runs often with few rows, as decoding does. `exact` changes no
 * value. `int8` and `int4` round it to so many bits with a scale for every {@link PACKED_BLOCK} elements of a row, and the
 * rows that it is multiplied with to 8 bits: faster, because fewer bytes are read, and not the same numbers.
 */
export type ConstantPacking = 'exact' | 'int8' | 'int4'

/** Elements of a row that share a scale where a weight is rounded. */
export const PACKED_BLOCK = 32

export interface CompileOptions {
  /**
   * Which constants are laid out anew for this program, by name. They must be bound before it is compiled, and cannot be
   * bound again while it lives; each program holds its own copy. @throws EngineError where the backend cannot round.
   */
  readonly prepackConstants?: Readonly<Record<string, ConstantPacking>>
  /** Give the memory of intermediate values back after every run: for programs that run seldom, such as the optimizer's. */
  readonly releaseMemory?: boolean
}

/** Beginnings of names: states that begin with a key are found under the value in its place. The first that fits counts. */
export type NamePrefixes = Readonly<Record<string, string>>

export type RunResult = Record<string, TensorData>

export interface Executable {
  /**
   * Runs the program: feeds the inputs, returns the outputs, applies the updates to the session's states.
   * `names` lets one program work on several sets of states.
   * @throws EngineError if an input is missing or has the wrong size, or if a constant or state is not bound.
   */
  run(inputs: Readonly<Record<string, TensorData>>, names?: NamePrefixes): Promise<RunResult>
  dispose(): Promise<void>
}
