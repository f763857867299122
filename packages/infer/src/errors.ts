/** What went wrong, for programs. The message says it to people; it never contains text of a conversation. */
export type InferErrorCode =
  /** A sampling option outside its range, or a combination that has no meaning. */
  | 'MIRASTRAL_INFER_OPTION'
  /** A tokenizer that generation does not understand. */
  | 'MIRASTRAL_INFER_TOKENIZER'
  /** A JSON schema with a keyword that cannot be enforced while generating. */
  | 'MIRASTRAL_INFER_SCHEMA'
  /** The prompt does not fit into the context window. */
  | 'MIRASTRAL_INFER_CONTEXT_LENGTH'
  /** A tool declared twice, with an unusable name or schema. */
  | 'MIRASTRAL_INFER_TOOL'
  /** Generation cannot continue, or a generator broke its contract. */
  | 'MIRASTRAL_INFER_GENERATION'
  /** The client profile: wrong passphrase, damaged file, unknown entry. */
  | 'MIRASTRAL_INFER_PROFILE'
  /** The server was started or called in a way that it refuses. */
  | 'MIRASTRAL_INFER_SERVER'
  /** A rule, policy, resource or classifier file of the safety guard that cannot be used. */
  | 'MIRASTRAL_INFER_GUARD'
  /** An evaluation suite that cannot be used, or a model that broke its contract during an evaluation. */
  | 'MIRASTRAL_INFER_EVALUATION'

/**
 * Every error that this package throws on purpose. `exitCode` is what a program should exit with: 2 where the user can
 * put it right (an option, a file, a request), 1 where they cannot.
 */
export class InferError extends Error {
  override readonly name = 'InferError'
  readonly code: InferErrorCode
  readonly exitCode: number

  constructor(code: InferErrorCode, message: string, options: { exitCode?: number; cause?: unknown } = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause })
    this.code = code
    this.exitCode = options.exitCode ?? 2
  }
}

/** Joins several findings into one message: one alone on the same line, several as a list, so that none hides another. */
export function listProblems(head: string, problems: readonly string[]): string {
  if (problems.length === 1) return `${head}: ${problems[0]}`
  return `${head}, ${problems.length} problems:\n${problems.map((p) => `  - ${p}`).join('\n')}`
}
