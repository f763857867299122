/** What went wrong, for programs that react to it. */
export type QuantErrorKind =
  /** An argument breaks a rule: shape, block size, dtype, range. */
  | 'usage'
  /** A weight to be quantized is infinite or NaN. */
  | 'non-finite'
  /** A checkpoint does not follow the bitsandbytes 4-bit layout, or a folder cannot be quantized. */
  | 'malformed'
  /** The operating system or a worker thread failed. */
  | 'io'

/** Every error of `@mirastral/quant`. `exitCode` is 2 where the input is at fault, 1 otherwise. */
export class QuantError extends Error {
  override readonly name = 'QuantError'
  readonly code = 'MIRASTRAL_QUANT'
  readonly exitCode: number

  constructor(
    readonly kind: QuantErrorKind,
    message: string,
    options?: ErrorOptions,
  ) {
    super(message, options)
    this.exitCode = kind === 'io' ? 1 : 2
  }
}
