/** Runs a program: an error that carries an `exitCode` (all of ours do) ends it with one line. */
export async function runWithOneLine(main: () => Promise<number>): Promise<void> {
  try {
    process.exitCode = await main()
  } catch (error) {
    if (!(error instanceof Error && 'exitCode' in error && typeof error.exitCode === 'number')) throw error
    process.stderr.write(`${error.message}\n`)
    process.exitCode = error.exitCode
  }
}
