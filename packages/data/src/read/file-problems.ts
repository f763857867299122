/** Why a whole file was not used. It is left for the next run. */
export const FILE_PROBLEMS = {
  unreadable: 'cannot be read',
  'not-a-file': 'is not a file',
  'invalid-gzip': 'is not a whole gzip file',
  'expands-too-far': 'is a gzip file that grows more than text does (see limits.maxExpansion)',
  truncated: 'ends in the middle of its JSON (still being written, or cut off)',
  'not-json': 'is not JSON',
  'invalid-utf8': 'is not valid UTF-8 (name its encoding: latin1, windows-1252, ...)',
  'invalid-csv': 'is not CSV with a header',
  'invalid-parquet': 'is not a whole Parquet file',
  'record-too-large': 'has records that are too large to be read one by one',
  'no-records': 'has no records',
  'nothing-usable': 'has no record that can be used',
  'changed-while-reading': 'was written to while it was read',
} as const

export type FileProblem = keyof typeof FILE_PROBLEMS

/** A file that cannot be read to its end. Holds none of its content. */
export class FileError extends Error {
  readonly problem: FileProblem
  readonly detail: string | undefined

  constructor(problem: FileProblem, detail?: string) {
    super(`a file ${FILE_PROBLEMS[problem]}${detail === undefined ? '' : ` (${detail})`}`)
    this.name = 'FileError'
    this.problem = problem
    this.detail = detail
  }
}
