/** The `type` of an error, in the words of the OpenAI API. */
export type ApiErrorType =
  | 'invalid_request_error'
  | 'authentication_error'
  | 'permission_error'
  | 'not_found_error'
  | 'rate_limit_error'
  | 'server_error'
  | 'timeout_error'

type ApiStatus = 400 | 401 | 403 | 404 | 405 | 408 | 413 | 415 | 429 | 500 | 503 | 504

export interface ApiErrorDetails {
  readonly code?: string
  readonly param?: string
  /** Seconds after which it makes sense to try again. */
  readonly retryAfter?: number
}

/** An answer that refuses a request, in the form that clients of the OpenAI API read. It never repeats what was sent. */
export class ApiError extends Error {
  override readonly name = 'ApiError'

  constructor(
    readonly status: ApiStatus,
    readonly type: ApiErrorType,
    message: string,
    readonly details: ApiErrorDetails = {},
  ) {
    super(message)
  }

  /** The body of the response. */
  toJSON(): { error: { message: string; type: ApiErrorType; param: string | null; code: string | null } } {
    const { param = null, code = null } = this.details
    return { error: { message: this.message, type: this.type, param, code } }
  }
}

const codesOfClientErrors = /^MIRASTRAL_(INFER|DATA)_/

interface CodedError extends Error {
  readonly code: string
  readonly exitCode: number
}

const isCoded = (error: unknown): error is CodedError =>
  error instanceof Error && 'code' in error && typeof error.code === 'string' && 'exitCode' in error

/** What a client is told about an error. Only errors of our own, whose messages hold no conversation, speak for themselves. */
export function toApiError(error: unknown): ApiError {
  if (error instanceof ApiError) return error
  if (isCoded(error) && error.exitCode === 2 && codesOfClientErrors.test(error.code)) {
    const code = error.code === 'MIRASTRAL_INFER_CONTEXT_LENGTH' ? 'context_length_exceeded' : error.code.toLowerCase()
    return new ApiError(400, 'invalid_request_error', error.message, { code })
  }
  return new ApiError(
    500,
    'server_error',
    'The server failed to answer. Its log names the request by the x-request-id.',
  )
}

/** What may be logged about an error: its kind and where it arose, and its message only when it is one of our own. */
export function loggableError(error: unknown): Record<string, unknown> {
  if (!(error instanceof Error)) return { name: typeof error }
  const code = 'code' in error && typeof error.code === 'string' ? { code: error.code } : {}
  const frames = (error.stack ?? '').split('\n').filter((line) => /^\s+at /.test(line))
  const own = isCoded(error) || error instanceof ApiError ? { message: error.message } : {}
  return { name: error.name, ...code, ...own, at: frames.slice(0, 4).map((line) => line.trim()) }
}
