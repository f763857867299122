/** What went wrong, for programs that act on it. */
export type DataErrorCode =
  | 'MIRASTRAL_DATA_OPTION'
  | 'MIRASTRAL_DATA_INPUT'
  | 'MIRASTRAL_DATA_TOKENIZER'
  | 'MIRASTRAL_DATA_TEMPLATE'
  | 'MIRASTRAL_DATA_PREFLIGHT'
  | 'MIRASTRAL_DATA_CHANGED'
  | 'MIRASTRAL_LEDGER'
  | 'MIRASTRAL_LEDGER_LOCKED'
  | 'MIRASTRAL_DATA_INTERNAL'

/**
 * Every error that this package throws on purpose. The message is one line, names who complains, the rule and what was
 * got, and never contains text of a conversation; for that reason it carries no `cause` from a parser.
 *
 * `exitCode` is 2 where the user can put it right (an input, an option, a lock) and 1 otherwise.
 */
export class DataError extends Error {
  readonly code: DataErrorCode
  readonly exitCode: number

  constructor(code: DataErrorCode, message: string) {
    super(printable(message))
    this.name = 'DataError'
    this.code = code
    this.exitCode = code === 'MIRASTRAL_DATA_INTERNAL' ? 1 : 2
  }
}

/** The system's own words for a failed file operation (`ENOENT`, `EACCES`, ...): never the message, which may quote input. */
export function errorCodeOf(error: unknown): string {
  const code = error instanceof Error && 'code' in error ? error.code : undefined
  return typeof code === 'string' ? code : 'unknown error'
}

/** A text of one line that no terminal takes for a command: file names may hold line ends and escape sequences. */
export function printable(text: string): string {
  return text.replaceAll(
    /[\p{Cc}\u2028\u2029]/gu,
    (character) => `\\x${character.charCodeAt(0).toString(16).padStart(2, '0')}`,
  )
}
