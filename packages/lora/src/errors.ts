/** What went wrong, for programs. The message says it to people. */
export type LoraErrorCode =
  | 'MIRASTRAL_LORA_CONFIG'
  | 'MIRASTRAL_LORA_TARGET'
  | 'MIRASTRAL_LORA_INIT'
  | 'MIRASTRAL_LORA_WEIGHTS'
  | 'MIRASTRAL_LORA_MERGE'
  | 'MIRASTRAL_LORA_EXPORT'
  | 'MIRASTRAL_LORA_PUBLISH'

/**
 * Every error that this package throws on purpose. `exitCode` is what a program should exit with: 2 where the user can
 * put it right (an option, a file, a folder), 1 where they cannot.
 */
export class LoraError extends Error {
  override readonly name = 'LoraError'
  readonly code: LoraErrorCode
  readonly exitCode: number

  constructor(code: LoraErrorCode, message: string, options: { exitCode?: number; cause?: unknown } = {}) {
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
