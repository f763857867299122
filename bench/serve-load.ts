// The server under load: `mirastral serve` on a small random model in a process of its own, spoken to by the official openai
// client. Many streams at once; streams that their clients leave; more requests than the queue takes. Fails where an answer is
// incomplete, a place is not given back, or memory and handles grow from round to round.
//
//   node --no-warnings --loader ts-node/esm serve-load.ts [--streams 50] [--rounds 6] [--concurrency 8] [--threads N] [--precision exact] [--device cpu] [--guard]
import { spawn } from 'node:child_process'
import { cp, mkdtemp, readdir, readFile, rm } from 'node:fs/promises'
import { loadavg, tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { physicalCores } from '@mirastral/engine'
import { writeRandomModel } from '@mirastral/models'
import OpenAI from 'openai'
import { randomFrom } from './lib/conversations.js'

const here = (path: string) => fileURLToPath(new URL(path, import.meta.url))
const { values } = parseArgs({
  options: {
    streams: { type: 'string', default: '50' },
    rounds: { type: 'string', default: '6' },
    tokens: { type: 'string', default: '48' },
    concurrency: { type: 'string', default: '8' },
    queue: { type: 'string', default: '64' },
    threads: { type: 'string', default: String(physicalCores()) },
    precision: { type: 'string', default: 'exact' },
    device: { type: 'string', default: 'cpu' },
    guard: { type: 'boolean', default: false },
  },
})
const [streams, rounds, tokens, concurrency, queue] = [
  values.streams,
  values.rounds,
  values.tokens,
  values.concurrency,
  values.queue,
].map(Number)
const random = randomFrom(3)

const shape = {
  architectures: ['MistralForCausalLM'],
  model_type: 'mistral',
  vocab_size: 2048,
  hidden_size: 192,
  intermediate_size: 512,
  num_hidden_layers: 4,
  num_attention_heads: 6,
  num_key_value_heads: 2,
  max_position_embeddings: 2048,
  initializer_range: 0.05,
  bos_token_id: 1,
  eos_token_id: 2,
}

interface Server {
  readonly url: string
  readonly client: OpenAI
  /** Megabytes in memory and open files of the process. */
  usage(): Promise<{ memory: number; files: number }>
  load(): Promise<{ active: number; queued: number }>
  stop(): Promise<void>
}

async function startServer(folder: string): Promise<Server> {
  const args = ['serve', '--model', folder, '--port', '0', '--context', '512', '--requests-per-minute', '1000000']
  const own = {
    threads: values.threads,
    concurrency: values.concurrency,
    queue: values.queue,
    precision: values.precision,
    device: values.device,
  }
  for (const [name, value] of Object.entries(own)) args.push(`--${name}`, value)
  if (!values.guard) args.push('--no-guard')
  const child = spawn(process.execPath, [here('../packages/infer/dist/mirastral-cli.js'), ...args])
  let told = ''
  child.stderr.on('data', (data: Buffer) => (told = (told + data.toString()).slice(-2000)))
  const url = await new Promise<string>((resolve, reject) => {
    child.stdout.on('data', (data: Buffer) => {
      const found = /(http:\/\/[^/ ]+)\/v1/.exec(data.toString())
      if (found) resolve(found[1])
    })
    child.on('exit', (code) => reject(new Error(`the server ended with code ${code}: ${told}`)))
  })
  const { pid = 0 } = child
  return {
    url,
    client: new OpenAI({ baseURL: `${url}/v1`, apiKey: 'none', maxRetries: 0 }),
    usage: async () => {
      const status = await readFile(`/proc/${pid}/status`, 'utf8')
      const files = await readdir(`/proc/${pid}/fd`)
      return { memory: Number(/VmRSS:\s+(\d+)/.exec(status)?.[1]) / 1024, files: files.length }
    },
    load: async () => (await (await fetch(`${url}/health`)).json()) as { active: number; queued: number },
    stop: () =>
      new Promise((resolve) => {
        child.removeAllListeners('exit').on('exit', () => resolve())
        child.kill('SIGTERM')
      }),
  }
}

interface Answer {
  readonly firstMs: number
  readonly seconds: number
  readonly tokens: number
}

const topics =
  'sleep work a friend the week my sister being tired a walk saying no a quiet morning the long winter'.split(' ')
const promptOf = (n: number): string =>
  Array.from({ length: 4 + (n % 40) }, () => topics[Math.floor(random() * topics.length)]).join(' ')

/** One streamed answer; with `leaveAfter` the client goes away after so many pieces. */
async function stream({ client }: Server, n: number, leaveAfter = Infinity): Promise<Answer | 'left'> {
  const start = performance.now()
  const request = {
    model: 'load',
    messages: [{ role: 'user' as const, content: promptOf(n) }],
    max_completion_tokens: tokens,
    temperature: 1,
    seed: n,
    stream: true as const,
    stream_options: { include_usage: true },
  }
  let [firstMs, pieces, written] = [0, 0, 0]
  let finished = false
  for await (const chunk of await client.chat.completions.create(request)) {
    if (pieces++ === 0) firstMs = performance.now() - start
    // Ending the loop closes the connection; an abort once everything has come would never end it on Node 20.
    if (pieces > leaveAfter) return 'left'
    finished ||= (chunk.choices[0]?.finish_reason ?? null) !== null
    written = chunk.usage?.completion_tokens ?? written
  }
  if (!finished) throw new Error(`stream ${n} ended after ${pieces} pieces without a finish reason`)
  return { firstMs, seconds: (performance.now() - start) / 1000, tokens: written }
}

function quantile(all: readonly number[], q: number): number {
  const sorted = [...all].sort((a, b) => a - b)
  return sorted[Math.min(sorted.length - 1, Math.floor(q * sorted.length))]
}

async function atRest(server: Server): Promise<void> {
  for (let waited = 0; waited < 10_000; waited += 20) {
    const { active, queued } = await server.load()
    if (active === 0 && queued === 0) return
    await delay(20)
  }
  throw new Error(`places were not given back: ${JSON.stringify(await server.load())}`)
}

async function wholeStreams(server: Server, count: number): Promise<void> {
  const start = performance.now()
  const answers = await Promise.all(Array.from({ length: count }, (_, n) => stream(server, n)))
  const seconds = (performance.now() - start) / 1000
  const whole = answers.filter((answer) => answer !== 'left')
  const firsts = whole.map((answer) => answer.firstMs)
  const written = whole.reduce((sum, answer) => sum + answer.tokens, 0)
  const first = `first token p50 ${quantile(firsts, 0.5).toFixed(0)} ms, p95 ${quantile(firsts, 0.95).toFixed(0)} ms`
  const rate = `${(written / seconds).toFixed(0)} tokens/s together`
  console.log(`${count} at once: ${whole.length} whole, ${first}, ${rate} (${seconds.toFixed(1)} s)`)
}

/** Every other client leaves at some moment. */
async function leavingStreams(server: Server): Promise<void> {
  const usages: { memory: number; files: number }[] = []
  for (let round = 0; round < rounds; round++) {
    const all = Array.from({ length: streams }, (_, n) =>
      stream(server, n, n % 2 === 0 ? Math.floor(random() * 20) : Infinity),
    )
    const left = (await Promise.all(all)).filter((answer) => answer === 'left').length
    await atRest(server)
    // Connections are kept alive for a moment.
    await delay(6000)
    const usage = await server.usage()
    usages.push(usage)
    console.log(`round ${round + 1}: ${left} left, ${usage.memory.toFixed(0)} MB, ${usage.files} open files`)
  }
  const [first, last] = [usages[Math.min(2, usages.length - 1)], usages[usages.length - 1]]
  if (last.files > first.files + 2) throw new Error('open files grow from round to round')
  if (last.memory > first.memory * 1.15 + 10) throw new Error('memory grows from round to round')
}

async function tooMany(server: Server): Promise<void> {
  const count = concurrency + queue + 40
  const outcomes = await Promise.allSettled(Array.from({ length: count }, (_, n) => stream(server, n)))
  const refused = outcomes.flatMap((o) => (o.status === 'rejected' ? [o.reason as unknown] : []))
  const known = refused.filter((error) => error instanceof OpenAI.RateLimitError && error.headers?.has('retry-after'))
  console.log(`${count} at once: ${count - refused.length} answered, ${known.length} told to come back later`)
  if (known.length !== refused.length) throw refused.find((error) => !known.includes(error))
  if (known.length === 0) throw new Error('nobody was refused')
  await atRest(server)
}

const root = await mkdtemp(join(tmpdir(), 'serve-load-'))
const folder = join(root, 'load')
await writeRandomModel(folder, shape, { seed: 2 })
await cp(here('../examples/tokenizer'), folder, { recursive: true })
console.log(
  `${streams} streams, ${concurrency} places, ${values.threads} threads, ${values.precision}, ` +
    `guard ${values.guard ? 'on' : 'off'}, load ${loadavg()[0].toFixed(1)}`,
)
const server = await startServer(folder)
try {
  await wholeStreams(server, 1)
  await wholeStreams(server, concurrency)
  await wholeStreams(server, streams)
  await leavingStreams(server)
  await tooMany(server)
} finally {
  await server.stop()
  await rm(root, { recursive: true })
}
