import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

/** For vitest: everything that tests put in the folder for temporary files is gone after the run. */
export default function temporaryFolder(): () => void {
  const folder = mkdtempSync(join(tmpdir(), 'mirastral-test-'))
  process.env.TMPDIR = folder
  return () => {
    rmSync(folder, { recursive: true, force: true, maxRetries: 3 })
  }
}
