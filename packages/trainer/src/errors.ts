export type TrainerErrorCode =
  | 'MIRASTRAL_TRAINER_OPTIONS' // an option is not valid
  | 'MIRASTRAL_TRAINER_DATA' // there is nothing to train on, or a batch cannot be used
  | 'MIRASTRAL_OUTPUT_LOCKED' // another run works in the output folder
  | 'MIRASTRAL_OUTPUT_UNWRITABLE' // the output folder cannot be written
  | 'MIRASTRAL_DISK_FULL' // no space left while saving
  | 'MIRASTRAL_CHECKPOINT_DAMAGED' // no checkpoint of the folder verifies
  | 'MIRASTRAL_CHECKPOINT_MISMATCH' // the checkpoint belongs to another model, adapter, data set or recipe
  | 'MIRASTRAL_BUDGET_TOO_SHORT' // the time budget ends before anything can be done
  | 'MIRASTRAL_DIVERGED' // too many steps with a loss or gradient that is not finite
  | 'MIRASTRAL_TRAINER_INTERNAL' // our fault

/** What the trainer throws. `exitCode` is 2 for what the user can put right, 1 otherwise. */
export class TrainerError extends Error {
  override readonly name = 'TrainerError'
  constructor(
    readonly code: TrainerErrorCode,
    message: string,
    readonly exitCode: 1 | 2 = 2,
    options?: ErrorOptions,
  ) {
    super(message, options)
  }
}

/** The `code` of a Node system error (`ENOSPC`, `EACCES`, ...), or undefined. */
export function systemErrorCode(error: unknown): string | undefined {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : undefined
}

const fullDisk = new Set(['ENOSPC', 'EDQUOT', 'EFBIG'])
const unwritable = new Set(['EACCES', 'EPERM', 'EROFS', 'ENOTDIR', 'ENAMETOOLONG', 'ENOENT', 'EISDIR'])

/** Says a failed write in the user's terms; errors that are not about the file system come back unchanged. */
export function writeError(error: unknown, what: string, advice = ''): unknown {
  if (error instanceof TrainerError) return error
  const say = (rule: string): string => `${what}: ${rule}. ${advice}`.trim()
  // Other packages wrap the system's error: the code of the innermost one decides.
  for (let cause = error; cause instanceof Error; cause = cause.cause) {
    const code = systemErrorCode(cause) ?? ''
    if (fullDisk.has(code)) {
      const message = say(`no space left on the device (${code}); free some space and run again`)
      return new TrainerError('MIRASTRAL_DISK_FULL', message, 1, { cause: error })
    }
    if (unwritable.has(code)) {
      const message = say(`cannot be written (${code}); choose another output folder or change its permissions`)
      return new TrainerError('MIRASTRAL_OUTPUT_UNWRITABLE', message, 2, { cause: error })
    }
  }
  return error
}
