/** What went wrong, for programs that react to it. */
export type SafetensorsErrorKind =
  /** The file or folder does not exist, or may not be read or written. */
  | 'access'
  /** The bytes do not follow the format: truncated, overlapping, wrong sizes, broken JSON, an index that disagrees. */
  | 'malformed'
  /** The bytes or the request exceed a limit. */
  | 'limit'
  /** No tensor of that name. */
  | 'unknown-tensor'
  /** A byte range outside the tensor, or the wrong use of a reader or writer. */
  | 'usage'
  /** Tensors to be written do not follow the format. */
  | 'entries'
  /** The operating system failed while reading or writing. */
  | 'io'

/** Every error of `@mirastral/safetensors`. `exitCode` is 2 where the input is at fault, 1 where the machine is. */
export class SafetensorsError extends Error {
  override readonly name = 'SafetensorsError'
  readonly code = 'MIRASTRAL_SAFETENSORS'
  readonly exitCode: number

  constructor(
    readonly kind: SafetensorsErrorKind,
    message: string,
    options?: ErrorOptions,
  ) {
    super(message, options)
    this.exitCode = kind === 'io' ? 1 : 2
  }
}

const accessCodes = new Set(['ENOENT', 'ENOTDIR', 'EISDIR', 'EACCES', 'EPERM', 'EROFS', 'ELOOP', 'ENAMETOOLONG'])

/** The operating system's refusal as one clear line. */
export function systemError(who: string, error: unknown): SafetensorsError {
  if (error instanceof SafetensorsError) return error
  const code = error instanceof Error && 'code' in error ? String(error.code) : ''
  const reason = error instanceof Error ? error.message : String(error)
  return new SafetensorsError(accessCodes.has(code) ? 'access' : 'io', `${who}: ${reason}`, { cause: error })
}
