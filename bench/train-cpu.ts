// Tokens per second of LoRA training on the CPU: a random model of SmolLM2-135M's shape, LoRA r=16 on q, k, v and o,
// beside PyTorch + PEFT on the same model in the same run where Python has them (MIRASTRAL_PYTHON, default python3).
//
//   node --no-warnings --loader ts-node/esm train-cpu.ts [--steps 5] [--threads N] [--quick]
import { execFile } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { parseArgs, promisify } from 'node:util'
import { physicalCores } from '@mirastral/engine'
import { smollm2Folder, stepFlops } from './lib/smollm2.js'

const run = promisify(execFile)
const here = (path: string) => fileURLToPath(new URL(path, import.meta.url))
const { values } = parseArgs({
  options: {
    steps: { type: 'string', default: '5' },
    threads: { type: 'string', default: String(physicalCores()) },
    quick: { type: 'boolean', default: false },
  },
})
const { steps, threads } = values
const folder = await smollm2Folder(here('../.cache/bench'))

interface Measured {
  ms: number
  best: number
  peakMb: number
  rate?: number
  losses: number[]
}

async function ours(batch: number, weights: string, checkpointing: string): Promise<Measured> {
  const args = { model: folder, batch, weights, checkpointing, threads, steps }
  const flags = Object.entries(args).map(([name, value]) => `--${name}=${value}`)
  const { stdout } = await run(process.execPath, ['train-cpu-variant.mjs', ...flags], { cwd: here('.') })
  return JSON.parse(stdout) as Measured
}

async function peer(batch: number, checkpointing: string): Promise<Measured | string> {
  const python = process.env.MIRASTRAL_PYTHON ?? 'python3'
  const args = [here('peers/train_cpu.py'), folder, String(batch), '256', threads, steps, checkpointing]
  try {
    const { stdout } = await run(python, args, {
      env: { ...process.env, HF_HUB_OFFLINE: '1', OMP_NUM_THREADS: threads },
    })
    return JSON.parse(stdout.trim().split('\n').at(-1) ?? '') as Measured
  } catch (error) {
    const reason = error instanceof Error ? error.message.trim().split('\n').at(-1) : String(error)
    return `PyTorch + PEFT skipped: ${python} could not run it (${reason})`
  }
}

function row(name: string, batch: number, m: Measured, against?: Measured): string {
  const perSecond = (batch * 256) / (m.ms / 1000)
  const gflops = stepFlops(batch, 256, 16) / m.ms / 1e6
  const ofMatmul = m.rate === undefined ? '' : `${((100 * gflops) / m.rate).toFixed(0)}% of ${m.rate.toFixed(0)}`
  const ratio = against ? `${(against.ms / m.ms).toFixed(2)}x` : ''
  const cells = [
    name.padEnd(22),
    `${batch}x256`,
    `${m.ms.toFixed(0)} ms`.padStart(8),
    `${perSecond.toFixed(0)} tok/s`.padStart(11),
  ]
  return [
    ...cells,
    `${gflops.toFixed(0)} GFLOP/s`.padStart(12),
    ofMatmul.padEnd(12),
    `${m.peakMb.toFixed(0)} MB`.padStart(8),
    ratio,
  ].join('  ')
}

console.log(`SmolLM2-135M shape, LoRA r=16 on q,k,v,o, ${threads} threads, median of ${steps} optimizer steps`)
for (const batch of values.quick ? [1] : [1, 4]) {
  const torch = await peer(batch, 'none')
  if (typeof torch === 'string') console.log(torch)
  const reference = typeof torch === 'string' ? undefined : torch
  if (reference) console.log(row('PyTorch + PEFT, f32', batch, reference))
  for (const weights of ['dense', 'nf4-dense', 'nf4']) {
    for (const checkpointing of ['none', 'full']) {
      const measured = await ours(batch, weights, checkpointing)
      console.log(row(`${weights}${checkpointing === 'full' ? ' + checkpointing' : ''}`, batch, measured, reference))
      if (weights === 'dense' && reference && checkpointing === 'none') compareLosses(measured, reference)
    }
  }
}

/** The first loss needs only the base model (B is zero): the two must be the same computation. */
function compareLosses(a: Measured, b: Measured): void {
  const difference = Math.abs(a.losses[0] - b.losses[0]) / b.losses[0]
  if (difference > 1e-4) throw new Error(`the first losses differ: ${a.losses[0]} and PyTorch's ${b.losses[0]}`)
}
