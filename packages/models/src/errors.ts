/** What went wrong, for programs that react to it. */
export type ModelErrorKind =
  /** config.json is missing a meaning here: broken JSON, wrong types, an architecture that is not supported. */
  | 'config'
  /** Tensors are missing, unexpected, of the wrong shape or dtype. */
  | 'checkpoint'
  /** The folder or file does not exist, or may not be read or written. */
  | 'access'
  /** The Hub has no such repository or revision, or does not let this account see it. */
  | 'repository'
  /** The Hub could not be reached, or the download broke off: trying again may help. */
  | 'network'
  /** An option of a function has a value that it does not allow. */
  | 'option'
  /** A fault of this package. */
  | 'internal'

/** Every error of `@mirastral/models`. `problems` lists each thing that is wrong; the message joins them in one line. */
export class ModelError extends Error {
  override readonly name = 'ModelError'
  readonly code = 'MIRASTRAL_MODELS'
  readonly exitCode: number

  constructor(
    readonly kind: ModelErrorKind,
    message: string,
    readonly problems: readonly string[] = [],
    options?: ErrorOptions,
  ) {
    super(message, options)
    this.exitCode = kind === 'network' || kind === 'internal' ? 1 : 2
  }

  /** Trying the same again may work: nothing is wrong with what was asked for. */
  get retryable(): boolean {
    return this.kind === 'network'
  }
}

/** One error for a whole list: `who: 2 problems: first; second`. */
export function problemsError(kind: ModelErrorKind, who: string, problems: readonly string[]): ModelError {
  const count = problems.length === 1 ? '' : `${problems.length} problems: `
  return new ModelError(kind, `${who}: ${count}${problems.join('; ')}`, problems)
}

/** An error that only a fault in this package can cause. */
export function internal(message: string): ModelError {
  return new ModelError('internal', `internal: ${message}`)
}

/** The message of anything that was thrown. */
export function reasonOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}

/** `a, b, c and 7 more`: enough names to act on, never a page of them. */
export function nameSome(names: readonly string[], limit = 8): string {
  const rest = names.length - limit
  return rest > 0 ? `${names.slice(0, limit).join(', ')} and ${rest} more` : names.join(', ')
}
