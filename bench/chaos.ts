// Kills a training run again and again, at random moments of every phase, until it is finished, and compares everything that
// it leaves behind with an uninterrupted run: adapter, moments, state and logs must be equal bit for bit.
// Usage: node --loader ts-node/esm bench/chaos.ts [--kills 100] [--seed 1] [--merge]
import { spawn } from 'node:child_process'
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { readTensorBoard } from '../packages/trainer/test/support/read-tensorboard.js'

const phases = ['start', 'load', 'data', 'train', 'evaluate', 'save', 'final'] as const
type Phase = (typeof phases)[number]

/** How a process is ended; SIGTERM and then SIGINT is a saved stop that is cut short. */
const ends = ['SIGKILL', 'SIGKILL', 'SIGKILL', 'SIGTERM', 'SIGINT', 'SIGUSR1', 'SIGTERM, SIGINT'] as const
type End = (typeof ends)[number]

const root = fileURLToPath(new URL('..', import.meta.url))
const childFile = join(root, 'bench', 'chaos-child.ts')

/** Numbers in [0, 1) from a seed (mulberry32), so that a failure can be repeated. */
function randomNumbers(seed: number): () => number {
  let state = seed
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let x = Math.imul(state ^ (state >>> 15), state | 1)
    x ^= x + Math.imul(x ^ (x >>> 7), x | 61)
    return ((x ^ (x >>> 14)) >>> 0) / 2 ** 32
  }
}

interface Attack {
  readonly phase: Phase
  /** How many times the phase is let begin before. */
  readonly occurrence: number
  readonly delayMs: number
  readonly end: End
}

interface Life {
  readonly killedIn: string | null
  readonly status: string | null
  readonly exitCode: number | null
  readonly errors: string
}

interface Victim {
  readonly folder: string
  /** Whether micro-batches of one shape are merged. */
  readonly merge: boolean
}

/** Runs the child, ends it as `attack` says if it gets so far, and tells what became of it. */
function live({ folder, merge }: Victim, attack: Attack | null): Promise<Life> {
  const args = ['--no-warnings', '--loader', 'ts-node/esm', childFile, folder, ...(merge ? ['merge'] : [])]
  const child = spawn(process.execPath, args, {
    cwd: root,
    env: { ...process.env, TS_NODE_PROJECT: join(root, 'bench', 'tsconfig.json') },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  let [errors, last, seen] = ['', 'start', 0]
  let killedIn: string | null = null
  const strike = (end: End): void => {
    killedIn = last
    if (end !== 'SIGTERM, SIGINT') return void child.kill(end)
    child.kill('SIGTERM')
    setTimeout(() => child.kill('SIGINT'), 3)
  }
  child.stdout.on('data', (chunk: Buffer) => {
    for (const line of chunk.toString().trim().split('\n')) {
      last = line
      if (attack?.phase !== line || ++seen !== attack.occurrence) continue
      setTimeout(() => strike(attack.end), attack.delayMs)
    }
  })
  child.stderr.on('data', (chunk: Buffer) => (errors += chunk.toString()))
  return new Promise((resolve) => {
    child.on('close', (exitCode) => {
      const status = last.startsWith('end ') ? last.slice(4) : null
      resolve({ killedIn: status === 'finished' ? null : killedIn, status, exitCode, errors })
    })
  })
}

/** Everything in an output folder that must not depend on how often it was interrupted. */
async function tracesOf(folder: string): Promise<Map<string, string>> {
  const traces = new Map<string, string>()
  const results = join(folder, 'results')
  for (const log of ['train.jsonl', 'eval.jsonl']) traces.set(log, await readFile(join(results, log), 'utf8'))
  const names = (await readdir(results)).filter((name) => name.includes('checkpoint'))
  // Stops leave checkpoints of their own in between; the last and the best one have to be equal.
  const last = 'checkpoint-16'
  const state = await readFile(join(results, last, 'trainer_state.json'), 'utf8')
  const best = (JSON.parse(state) as { best_model_checkpoint: string }).best_model_checkpoint
  for (const name of [last, best]) {
    for (const file of await readdir(join(results, name))) {
      if (file === 'manifest.json') continue
      const bytes = await readFile(join(results, name, file))
      // The length of the log of speeds depends on the digits of times.
      const text =
        file === 'mirastral_state.json' ? bytes.toString().replace(/"speed": \d+/, '') : bytes.toString('base64')
      traces.set(`${name}/${file}`, text)
    }
  }
  const final = await readFile(join(folder, 'final_model', 'adapter_model.safetensors'))
  traces.set('final_model', final.toString('base64'))
  // Times and memory differ from run to run, what was learned does not; nothing may be there twice.
  const series = await readTensorBoard(join(results, 'tensorboard'))
  const learned = [...series].filter(([tag]) => /^(train|eval)\//.test(tag)).sort()
  traces.set('tensorboard', JSON.stringify(learned))
  const leftovers = [...(await readdir(folder)), ...names].filter((name) => /^\.|-(micro|evaluate|start)-/.test(name))
  traces.set('leftovers', leftovers.join(' '))
  return traces
}

function firstDifference(expected: Map<string, string>, actual: Map<string, string>): string | null {
  for (const name of new Set([...expected.keys(), ...actual.keys()])) {
    if (expected.get(name) !== actual.get(name)) return name
  }
  return null
}

function plan(random: () => number): Attack {
  const pick = <T>(values: readonly T[]): T => values[Math.floor(random() * values.length)]
  const phase = pick(phases)
  const often = phase === 'train' ? 24 : phase === 'evaluate' ? 5 : phase === 'save' ? 2 : 1
  return { phase, occurrence: 1 + Math.floor(random() * often), delayMs: Math.floor(random() * 12), end: pick(ends) }
}

async function killUntilFinished(victim: Victim, random: () => number, kills: Map<string, number>): Promise<void> {
  for (let lives = 0; lives < 60; lives++) {
    const attack = plan(random)
    const life = await live(victim, attack)
    if (life.killedIn !== null) kills.set(life.killedIn, (kills.get(life.killedIn) ?? 0) + 1)
    else if (life.exitCode !== 0) throw new Error(`the run failed by itself: ${life.errors.trim()}`)
    if (life.status === 'finished' || life.status === 'nothing-new') return
  }
  const life = await live(victim, null)
  if (life.status !== 'finished') throw new Error(`the run does not finish: ${life.errors.trim()}`)
}

/** Returns how many kills landed in which phase. Throws if an interrupted run differs from the uninterrupted one. */
export async function chaos(
  { kills, seed, merge = false }: { readonly kills: number; readonly seed: number; readonly merge?: boolean },
  log: (line: string) => void,
): Promise<Map<string, number>> {
  const parent = await mkdtemp(join(tmpdir(), 'mirastral-chaos-'))
  const random = randomNumbers(seed)
  const counts = new Map<string, number>()
  const total = (): number => [...counts.values()].reduce((sum, n) => sum + n, 0)
  try {
    const whole = join(parent, 'whole')
    const life = await live({ folder: whole, merge }, null)
    if (life.status !== 'finished') throw new Error(`the uninterrupted run failed: ${life.errors.trim()}`)
    const expected = await tracesOf(whole)
    for (let run = 1; total() < kills; run++) {
      const folder = join(parent, `run-${run}`)
      const before = total()
      await killUntilFinished({ folder, merge }, random, counts)
      const difference = firstDifference(expected, await tracesOf(folder))
      if (difference !== null)
        throw new Error(`seed ${seed}, run ${run}: ${difference} differs from the uninterrupted run`)
      log(`run ${run}: ${total() - before} kills, equal to the uninterrupted run`)
      await rm(folder, { recursive: true })
    }
    return counts
  } finally {
    await rm(parent, { recursive: true, force: true })
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const { values } = parseArgs({
    options: {
      kills: { type: 'string', default: '100' },
      seed: { type: 'string', default: '1' },
      merge: { type: 'boolean', default: false },
    },
  })
  const counts = await chaos({ kills: Number(values.kills), seed: Number(values.seed), merge: values.merge }, (line) =>
    process.stdout.write(`${line}\n`),
  )
  const phrase = [...counts].map(([phase, n]) => `${n} in ${phase}`).join(', ')
  const total = [...counts.values()].reduce((sum, n) => sum + n, 0)
  process.stdout.write(`${total} kills (${phrase}): every run equals the uninterrupted one bit for bit\n`)
}
