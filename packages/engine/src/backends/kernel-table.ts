import type { OpName } from '../ops/index.js'

/** Says that a backend cannot run an op, and why; compiling a program with the op then fails with the reason. */
export interface Unsupported {
  readonly unsupported: string
}

/**
 * A backend's implementations of a family of ops. Spread the families into a {@link KernelTable}, which is exhaustive:
 * a new op is a compile error in each backend until the backend has a kernel for it or says why not.
 */
export type KernelTable<Kernel> = Readonly<Record<OpName, Kernel | Unsupported>>

export const isUnsupported = (entry: object): entry is Unsupported => 'unsupported' in entry
