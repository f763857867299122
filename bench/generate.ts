// Tokens per second of reading a prompt and of writing an answer on the CPU: a random model of SmolLM2-135M's shape, beside
// Transformers (MIRASTRAL_PYTHON, default python3; float32 and bfloat16) and llama.cpp (node-llama-cpp, where
// MIRASTRAL_LLAMA names a folder with its node_modules and MIRASTRAL_PYTHON has the package gguf, or MIRASTRAL_GGUF_PYTHON
// does), all in one run; then how far rounded weights lead away from the exact ones.
//
//   node --no-warnings --loader ts-node/esm generate.ts [--threads N] [--prompt 256] [--tokens 64] [--repeats 3] [--model FOLDER ...]
import { execFile } from 'node:child_process'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { loadavg } from 'node:os'
import { fileURLToPath } from 'node:url'
import { parseArgs, promisify } from 'node:util'
import { physicalCores } from '@mirastral/engine'
import { loadModel } from '@mirastral/models'
import { divergence } from './lib/divergence.js'
import { smollm2Folder } from './lib/smollm2.js'

const run = promisify(execFile)
const here = (path: string) => fileURLToPath(new URL(path, import.meta.url))
const { values } = parseArgs({
  options: {
    threads: { type: 'string', default: String(physicalCores()) },
    prompt: { type: 'string', default: '256' },
    tokens: { type: 'string', default: '64' },
    repeats: { type: 'string', default: '3' },
    /** Further models for the divergence, such as a trained one. */
    model: { type: 'string', multiple: true, default: [] },
    'divergence-only': { type: 'boolean', default: false },
  },
})
const { threads, prompt, tokens, repeats } = values
const cache = here('../.cache/bench')
const folder = await smollm2Folder(cache)
const python = process.env.MIRASTRAL_PYTHON ?? 'python3'

interface Measured {
  readonly prefill: number
  readonly decode: number
  /** Processor time of a written token, of all threads. On a busy machine, with one thread, this is what can be compared. */
  readonly cpuMs: number
  readonly tokens: number[]
  readonly peakMb?: number
  /** GB/s of the memory in this process. */
  readonly rate?: number
}

/** The last line of what a program prints, or why it printed none. */
async function measured(program: string, args: readonly string[], env: NodeJS.ProcessEnv = {}) {
  try {
    const { stdout } = await run(program, args, { cwd: here('.'), env: { ...process.env, ...env } })
    return JSON.parse(stdout.trim().split('\n').at(-1) ?? '') as Measured
  } catch (error) {
    const stderr = (error as { stderr?: string }).stderr ?? String(error)
    return stderr.trim().split('\n').at(-1) ?? 'unknown'
  }
}

function transformers(dtype: string) {
  const args = [here('peers/generate.py'), folder, dtype, threads, prompt, tokens, repeats]
  return measured(python, args, { HF_HUB_OFFLINE: '1', OMP_NUM_THREADS: threads })
}

async function llama(kind: string): Promise<Measured | string> {
  const home = process.env.MIRASTRAL_LLAMA
  if (home === undefined) return 'MIRASTRAL_LLAMA is not set'
  const file = join(cache, `smollm2-135m-${kind}.gguf`)
  const gguf = process.env.MIRASTRAL_GGUF_PYTHON ?? python
  if (!existsSync(file)) await run(gguf, [here('peers/make_gguf.py'), folder, file, kind])
  return measured(process.execPath, [here('peers/llama.mjs'), home, file, threads, prompt, tokens, repeats])
}

/** Bytes that a token reads: layers and output embedding. 32 elements share a scale, and a zero point with 4 bits. */
const bytesOf = { dense: 4, nf4: 4.5 / 8, int8: 1 + 4 / 32, int4: 0.5 + 4 / 32 + 0.5 / 32 }
const LAYERS = 106_168_320
const HEAD = 28_311_552

const variants = [
  { name: 'dense, exact', weights: 'dense', precision: 'exact', bytes: bytesOf.dense * (LAYERS + HEAD) },
  { name: 'nf4, exact', weights: 'nf4', precision: 'exact', bytes: bytesOf.nf4 * LAYERS + bytesOf.dense * HEAD },
  { name: 'nf4, int8', weights: 'nf4', precision: 'int8', bytes: bytesOf.int8 * (LAYERS + HEAD) },
  { name: 'nf4, int4', weights: 'nf4', precision: 'int4', bytes: bytesOf.int4 * LAYERS + bytesOf.int8 * HEAD },
] as const

function row(name: string, m: Measured, against: Measured | undefined, bytes?: number): void {
  const cells = [
    name.padEnd(26),
    `${m.prefill.toFixed(0)} tok/s`.padStart(11),
    `${m.decode.toFixed(1)} tok/s`.padStart(12),
  ]
  const times = (ratio: number): string => (against ? `${ratio.toFixed(2)}x` : '').padStart(7)
  const byCpu = [`${m.cpuMs.toFixed(1)} ms`.padStart(9), times((against?.cpuMs ?? 0) / m.cpuMs)]
  const limit = bytes === undefined || m.rate === undefined ? undefined : (m.rate * 1e9) / bytes
  const ofLimit = limit === undefined ? '' : `${((100 * m.decode) / limit).toFixed(0)}% of ${limit.toFixed(0)}`
  const memory = m.peakMb === undefined ? '' : `${m.peakMb.toFixed(0)} MB`
  console.log(
    [...cells, times(m.decode / (against?.decode ?? 1)), ...byCpu, ofLimit.padStart(12), memory.padStart(9)].join('  '),
  )
}

async function speed(): Promise<void> {
  console.log(
    `SmolLM2-135M shape, prompt ${prompt}, ${tokens} new tokens, ${threads} threads, load ${loadavg()[0].toFixed(1)}`,
  )
  console.log(
    ['', 'prompt', 'answer', 'against', 'CPU', 'against', 'memory limit', 'peak']
      .map((title, i) => title.padStart([26, 11, 12, 7, 9, 7, 12, 9][i]))
      .join('  '),
  )
  const torch = await transformers('float32')
  const against = typeof torch === 'string' ? undefined : torch
  const peers: [string, Measured | string][] = [
    ['Transformers, float32', torch],
    ['Transformers, bfloat16', await transformers('bfloat16')],
    ['llama.cpp, Q8_0', await llama('Q8_0')],
    ['llama.cpp, Q4_0', await llama('Q4_0')],
  ]
  for (const [name, peer] of peers) {
    if (typeof peer === 'string') console.log(`${name}: skipped (${peer})`)
    else row(name, peer, against)
  }
  for (const batch of ['1', '8']) {
    for (const { name, bytes, ...variant } of variants) {
      const args = { model: folder, batch, threads, prompt, tokens, repeats, ...variant }
      const flags = Object.entries(args).map(([key, value]) => `--${key}=${value}`)
      const m = await measured(process.execPath, ['generate-variant.mjs', ...flags])
      if (typeof m === 'string') throw new Error(`${name}: ${m}`)
      if (batch === '1' && variant.weights === 'dense' && against) compareTokens(m, against)
      row(batch === '1' ? name : `${name}, 8 at once`, m, against, batch === '1' ? bytes : undefined)
    }
  }
}

/** The exact dense model must write what Transformers writes, as long as no two tokens are nearly equal. */
function compareTokens(a: Measured, b: Measured): void {
  const same = a.tokens.findIndex((token, i) => token !== b.tokens[i])
  if (same !== -1 && same < 4) throw new Error(`the answers differ at token ${same}`)
  console.log(`  (the same ${same === -1 ? a.tokens.length : same} tokens as Transformers)`)
}

async function divergences(): Promise<void> {
  console.log('\nNF4 model, rounded against exact: mean KL divergence of the next token in nats, equal greedy tokens')
  for (const path of [folder, ...values.model]) {
    const model = await loadModel(path, { quantization: 'nf4' })
    for (const precision of ['int8', 'int4'] as const) {
      const d = await divergence(model, precision, Number(threads))
      const kl = `KL ${d.kl.toExponential(1)} (largest ${d.worst.toExponential(1)})`
      const name = path.split('/').at(-1) ?? ''
      console.log(
        `${name}, ${precision}: ${kl}, ${((100 * d.equal) / d.tokens).toFixed(1)}% of ${d.tokens} greedy tokens`,
      )
    }
    await model.weights.close()
  }
}

if (!values['divergence-only']) await speed()
await divergences()
