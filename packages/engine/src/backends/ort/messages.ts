import type { Program } from '../../ir/program.js'
import type { CompileOptions, DenseTensor, HostTensor, NamePrefixes, RunResult, TensorData } from '../backend.js'
import type { OrtOptions } from './options.js'

/** What the session asks of its worker thread; replies carry the same id. */
export type OrtRequest =
  | { readonly method: 'create'; readonly options: OrtOptions }
  | { readonly method: 'bind'; readonly name: string; readonly tensor: HostTensor }
  | { readonly method: 'unbind'; readonly name: string }
  | { readonly method: 'read'; readonly name: string }
  | { readonly method: 'compile'; readonly program: Program; readonly options: CompileOptions }
  | {
      readonly method: 'run'
      readonly executable: number
      readonly feeds: Readonly<Record<string, TensorData>>
      readonly names: NamePrefixes
    }
  | { readonly method: 'release'; readonly executable: number }
  | { readonly method: 'endProfiling'; readonly executable: number }
  | { readonly method: 'dispose' }

export type OrtAnswer = DenseTensor | RunResult | number | undefined

/** An error as it crosses the thread border; the class is restored from the code. */
export interface ErrorMessage {
  readonly message: string
  readonly code: string
  readonly stack?: string
}

export type OrtReply = { readonly id: number } & ({ readonly answer: OrtAnswer } | { readonly error: ErrorMessage })
