/** Raised when a program, a tensor or a backend option is wrong. `exitCode` is 2 where the caller's input is at fault. */
export class EngineError extends Error {
  override readonly name: string = 'EngineError'
  readonly code: string = 'MIRASTRAL_ENGINE'
  readonly exitCode: number = 1
}

/** Raised when a backend cannot run here; the message says what is missing and how to get it. */
export class BackendUnavailableError extends EngineError {
  override readonly name = 'BackendUnavailableError'
  override readonly code = 'MIRASTRAL_BACKEND_UNAVAILABLE'
  override readonly exitCode = 2
}

/** An error that only a fault in this package can cause. */
export function internal(message: string): EngineError {
  return new EngineError(`internal: ${message}`)
}
