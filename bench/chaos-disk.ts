// Trains on a real file system that is too small, and on one that is read-only: the errors must say so in one line, and with
// more space the run must go on and equal the run that never met a full disk. Needs to mount a tmpfs: as root, or with
// unshare --map-root-user --mount. Usage: node --loader ts-node/esm bench/chaos-disk.ts
import { execFileSync } from 'node:child_process'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { train, TrainerError } from '@mirastral/trainer'
import type { TrainResult } from '@mirastral/trainer'
import { identity, makeEvaluation, makePairs, makeStep, saveAdapter } from '../packages/trainer/test/support/task.js'

const run = (folder: string): Promise<TrainResult> =>
  train({
    outputDir: folder,
    identity,
    step: makeStep(),
    data: { train: makePairs(31), eval: makeEvaluation(4) },
    saveAdapter,
    handleSignals: false,
    options: { learningRate: 0.05, saveSteps: 2, evalStrategy: 'steps', evalSteps: 4, budgetMinutes: null },
  })

const failureOf = async (folder: string): Promise<TrainerError> => {
  try {
    await run(folder)
  } catch (error) {
    if (error instanceof TrainerError) return error
    throw error
  }
  throw new Error('the run should have failed')
}

const expectThat = (condition: boolean, what: string): void => {
  if (!condition) throw new Error(`not so: ${what}`)
  process.stdout.write(`ok: ${what}\n`)
}

const mount = (folder: string, options: string): void => {
  execFileSync('mount', ['-t', 'tmpfs', '-o', options, 'tmpfs', folder], { stdio: 'pipe' })
}

const finalBytes = (folder: string): Promise<Buffer> =>
  readFile(join(folder, 'final_model', 'adapter_model.safetensors'))

const parent = await mkdtemp(join(tmpdir(), 'mirastral-disk-'))
const [whole, small] = [await mkdtemp(join(parent, 'whole-')), await mkdtemp(join(parent, 'small-'))]
try {
  mount(small, 'size=200k')
} catch {
  process.stdout.write('skipped: a tmpfs cannot be mounted here; try unshare --map-root-user --mount\n')
  await rm(parent, { recursive: true, force: true })
  process.exit(0)
}
try {
  await run(whole)
  const full = await failureOf(small)
  expectThat(full.code === 'MIRASTRAL_DISK_FULL', 'a full disk is named as such')
  expectThat(!full.message.includes('\n') && full.message.includes('no space left'), `one line: ${full.message}`)
  execFileSync('mount', ['-o', 'remount,ro', small])
  const readOnly = await failureOf(small)
  expectThat(readOnly.code === 'MIRASTRAL_OUTPUT_UNWRITABLE', `a read-only disk is named as such: ${readOnly.message}`)
  execFileSync('mount', ['-o', 'remount,rw,size=20m', small])
  const result = await run(small)
  expectThat(result.status === 'finished', `with more space the run goes on (${result.message})`)
  expectThat(
    (await finalBytes(whole)).equals(await finalBytes(small)),
    'its final model equals that of the undisturbed run',
  )
} finally {
  execFileSync('umount', [small])
  await rm(parent, { recursive: true, force: true })
}
