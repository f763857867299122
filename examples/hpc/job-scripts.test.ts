import { execFile, spawn } from 'node:child_process'
import { chmod, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { describe, expect, it, onTestFinished } from 'vitest'

const repository = fileURLToPath(new URL('../..', import.meta.url))

interface Job {
  readonly code: number
  readonly output: string
  /** What was submitted: arguments, and the variables that go with them. */
  readonly submitted: string
}

interface JobOptions {
  /** Shell lines that stand in for the fine-tune; `$OUT` is the output folder. */
  readonly run: string
  readonly env?: Record<string, string>
  /** Sent to the job script once the fine-tune says `ready`. */
  readonly signal?: NodeJS.Signals
}

const stopped = 'echo \'{"status":"stopped","step":7}\' > "$OUT/results/status.json"'
const finished = 'echo \'{"status":"finished","step":9}\' > "$OUT/results/status.json"'

/** Runs a job script with a stand-in for the scheduler's commands and for the fine-tune. */
async function runJob(script: 'run_finetune.pbs' | 'run_finetune.slurm', options: JobOptions): Promise<Job> {
  const folder = await mkdtemp(join(tmpdir(), 'mirastral-hpc-'))
  onTestFinished(() => rm(folder, { recursive: true, force: true }))
  const out = join(folder, 'out')
  await mkdir(join(out, 'results'), { recursive: true })
  const submissions = join(folder, 'submitted')
  await writeFile(submissions, '')
  for (const command of ['qsub', 'sbatch']) {
    const path = join(folder, command)
    await writeFile(path, `#!/bin/bash\necho "${command} $* SEGMENT=$SEGMENT LAST_STEP=$LAST_STEP" >> ${submissions}\n`)
    await chmod(path, 0o755)
  }
  const fake = join(folder, 'finetune.sh')
  await writeFile(fake, `OUT=${out}\n${options.run}\n`)
  const jobFile = join(folder, 'job.sh')
  await writeFile(jobFile, `OUT=${out}\nMODEL=owner/name\nDATA=('a b' c)\nARGS=(--rank 8)\nFINETUNE=(bash ${fake})\n`)
  const child = spawn('bash', [join(repository, 'examples', 'hpc', script)], {
    cwd: folder,
    env: {
      PATH: `${folder}:${process.env.PATH ?? ''}`,
      HOME: folder,
      JOB_FILE: jobFile,
      REPOSITORY: repository,
      PBS_O_WORKDIR: repository,
      SLURM_SUBMIT_DIR: repository,
      ...options.env,
    },
  })
  let output = ''
  const hear = (chunk: Buffer): void => {
    output += chunk.toString()
    if (options.signal && /^ready$/m.test(chunk.toString())) child.kill(options.signal)
  }
  child.stdout.on('data', hear)
  child.stderr.on('data', hear)
  const code = await new Promise<number>((resolve) => child.on('close', (exit) => resolve(exit ?? -1)))
  return { code, output, submitted: await readFile(submissions, 'utf8') }
}

const untilSignal = (signal: string): string =>
  `trap '${stopped.replaceAll("'", String.raw`'\''`)}; echo got ${signal}; exit 0' ${signal}\necho ready\nwhile true; do sleep 0.02; done`

describe.each(['run_finetune.pbs', 'run_finetune.slurm'] as const)('%s', (script) => {
  it('passes the settings of the job file on', async () => {
    const { output } = await runJob(script, { run: `${finished}\necho "arguments: $*"; printf '<%s>' "$@"` })
    expect(output).toMatch(/<--out><.*out><--model><owner\/name><--data><a b><--data><c><--rank><8>/)
  })

  it('submits the next segment after a saved stop', async () => {
    const { code, output, submitted } = await runJob(script, { run: stopped })
    expect(code).toBe(0)
    expect(output).toContain('step 7 is saved, submitting segment 2')
    expect(submitted).toMatch(new RegExp(`^(qsub|sbatch) .*examples/hpc/${script} SEGMENT=2 LAST_STEP=7\n$`))
  })

  it('submits nothing once the run is finished', async () => {
    const { code, output, submitted } = await runJob(script, { run: finished })
    expect([code, submitted]).toEqual([0, ''])
    expect(output).toContain('finished at step 9')
  })

  it.each([
    ['an error', `${stopped}\nexit 2`, 'failed with exit code 2'],
    [
      'a run that was killed',
      'echo \'{"status":"running","step":3}\' > "$OUT/results/status.json"',
      "status 'running'",
    ],
    ['no status at all', 'true', "status ''"],
  ])('submits nothing after %s', async (_, run, message) => {
    const { code, output, submitted } = await runJob(script, { run })
    expect([code, submitted]).toEqual([1, ''])
    expect(output).toContain(message)
  })

  it('ends at the last segment allowed, and where no segment gets any further', async () => {
    const last = await runJob(script, { run: stopped, env: { SEGMENT: '100' } })
    expect([last.code, last.submitted]).toEqual([1, ''])
    const once = await runJob(script, { run: stopped, env: { LAST_STEP: '7' } })
    expect(once.submitted).toContain('SEGMENT=2')
    const twice = await runJob(script, { run: stopped, env: { LAST_STEP: '7', LAST_STANDSTILL: 'yes' } })
    expect([twice.code, twice.submitted]).toEqual([1, ''])
    expect(twice.output).toContain('did not get beyond step 7')
  })

  it('hands the warning of the scheduler on, waits for the save, and goes on', async () => {
    const { code, output, submitted } = await runJob(script, { run: untilSignal('USR1'), signal: 'SIGUSR1' })
    expect(code).toBe(0)
    expect(output).toContain('got USR1')
    expect(submitted).toContain('SEGMENT=2')
  })

  it('does not go on after it was cancelled', async () => {
    const { code, output, submitted } = await runJob(script, { run: untilSignal('TERM'), signal: 'SIGTERM' })
    expect([code, submitted]).toEqual([0, ''])
    expect(output).toContain('got TERM')
    expect(output).toContain('cancelled at step 7, saved')
  })
})

describe('the job scripts', () => {
  it('are valid bash', async () => {
    for (const file of ['common.sh', 'job.example.sh', 'prefetch.sh', 'run_finetune.pbs', 'run_finetune.slurm']) {
      await promisify(execFile)('bash', ['-n', join(repository, 'examples', 'hpc', file)])
    }
  })
})
