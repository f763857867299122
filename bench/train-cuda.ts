// QLoRA training steps of a Mistral-7B-shaped model on one GPU, weights generated on the spot.
// Usage: node --no-warnings --loader ts-node/esm bench/train-cuda.ts [--layers 32] [--steps 8] [--only NAME] [--profile]
import { parseArgs } from 'node:util'
import {
  bf16,
  cudaBackend,
  Graph,
  linear,
  type CudaOptions,
  type Program,
  type RunResult,
  type TensorData,
} from '@mirastral/engine'
import { bindAll } from './cuda-weights.js'
import { microStepProgram, mistral7b, updateProgram, type DecoderShape } from './decoder-program.js'
import { runWithOneLine } from './lib/one-line.js'

type CudaSession = Awaited<ReturnType<ReturnType<typeof cudaBackend>['createSession']>>

interface Workload {
  readonly name: string
  readonly shape: Partial<DecoderShape>
  readonly accumulation: number
  readonly nf4: CudaOptions['nf4']
}

const workloads: readonly Workload[] = [
  { name: '1x256 acc 4, checkpoint, packed', shape: { checkpoint: true }, accumulation: 4, nf4: 'packed' },
  {
    name: '4x256 as one batch, checkpoint, packed',
    shape: { batch: 4, checkpoint: true },
    accumulation: 1,
    nf4: 'packed',
  },
  { name: '1x256 acc 4, packed', shape: {}, accumulation: 4, nf4: 'packed' },
  { name: '4x256 as one batch, packed', shape: { batch: 4 }, accumulation: 1, nf4: 'packed' },
  { name: '4x1024, packed', shape: { batch: 4, tokens: 1024 }, accumulation: 1, nf4: 'packed' },
  { name: '1x256 acc 4, resident', shape: {}, accumulation: 4, nf4: 'resident' },
  { name: '4x256 as one batch, resident', shape: { batch: 4 }, accumulation: 1, nf4: 'resident' },
  { name: '4x1024, resident', shape: { batch: 4, tokens: 1024 }, accumulation: 1, nf4: 'resident' },
  {
    name: '8x1024, checkpoint, resident',
    shape: { batch: 8, tokens: 1024, checkpoint: true },
    accumulation: 1,
    nf4: 'resident',
  },
]

const { values: args } = parseArgs({
  options: {
    layers: { type: 'string', default: '32' },
    steps: { type: 'string', default: '8' },
    only: { type: 'string', default: '' },
    profile: { type: 'boolean', default: false },
  },
})

/** Floating-point operations of a micro-step: products (4 per weight and token, 6 recomputed) and causal attention. */
function operations(s: DecoderShape): number {
  const perLayer = s.hidden * s.headDim * (2 * s.heads + 2 * s.kvHeads) + 3 * s.hidden * s.intermediate
  const lora = s.rank * (6 * s.hidden + 2 * s.headDim * (s.heads + s.kvHeads))
  const rows = s.batch * s.tokens
  const attentionForward = 2 * s.batch * s.heads * s.headDim * s.tokens ** 2
  const passes = s.checkpoint ? 3 : 2
  const head = 4 * s.vocabulary * s.hidden
  return (
    rows * (s.layers * (2 * passes * perLayer + 6 * lora) + head) + s.layers * attentionForward * (passes - 1 + 2.5)
  )
}

/** The rate of one large product with these rows, in TFLOP/s; in a session of its own, whose memory does not count. */
async function productRate(rows: number): Promise<number> {
  const session = await cudaBackend().createSession()
  const [k, n] = [4096, 14336]
  const g = new Graph(`product-${rows}`)
  const x = g.input('x', bf16(rows, k))
  let out = linear(x, g.constant('rate.w', bf16(n, k)))
  for (let i = 0; i < 4; i++)
    out = linear(
      linear(out, g.constant('rate.w', bf16(n, k)), { transposeWeight: false }),
      g.constant('rate.w', bf16(n, k)),
    )
  g.output('y', linear(out, g.constant('rate.v', bf16(16, n))))
  const program = g.build()
  await bindAll(session, [program])
  const exe = await session.compile(program)
  const feed = { x: Float32Array.from({ length: rows * k }, (_, i) => Math.sin(i * 12.9898)) }
  for (let i = 0; i < 3; i++) await exe.run(feed)
  const time = Math.min(...[0, 1, 2].map(() => exe.profile(feed).families.linear))
  await session.dispose()
  return (9 * 2 * rows * k * n) / (time * 1e9)
}

function feedsOf(s: DecoderShape, step: number): Record<string, TensorData> {
  const rows = s.batch * s.tokens
  const ids = Int32Array.from(
    { length: rows },
    (_, i) => (Math.imul(i + step * rows + 1, 2654435761) >>> 0) % s.vocabulary,
  )
  const positions = Int32Array.from({ length: rows }, (_, i) => i % s.tokens)
  const targets = Int32Array.from({ length: rows }, (_, i) => (i % s.tokens === s.tokens - 1 ? -100 : ids[i + 1]))
  return { ids, positions, targets }
}

const scalar = (x: number): Float32Array => Float32Array.of(x)
const gib = (bytes: number): string => `${(bytes / 2 ** 30).toFixed(2)} GiB`

interface Compiled {
  readonly micro: Awaited<ReturnType<CudaSession['compile']>>
  readonly update: Awaited<ReturnType<CudaSession['compile']>>
}

/** Queues one optimizer step; the results arrive later. */
function queueStep(
  { micro, update }: Compiled,
  s: DecoderShape,
  accumulation: number,
  step: number,
): Promise<RunResult[]> {
  const runs = Array.from({ length: accumulation }, (_, i) => micro.run(feedsOf(s, step * accumulation + i)))
  return Promise.all([...runs, update.run(updateFeeds(s, accumulation, step + 1))])
}

const updateFeeds = (s: DecoderShape, accumulation: number, t: number): Record<string, TensorData> => ({
  learningRate: scalar(1e-4),
  bias1: scalar(1 - 0.9 ** t),
  bias2: scalar(1 - 0.999 ** t),
  perToken: scalar(1 / (accumulation * s.batch * (s.tokens - 1))),
})

/** The last step is awaited while the next is already queued: the loss is read a step late. */
async function trainSteps(
  compiled: Compiled,
  s: DecoderShape,
  accumulation: number,
  first: number,
  count: number,
): Promise<RunResult[]> {
  let [pending, last]: [Promise<RunResult[]> | null, RunResult[]] = [null, []]
  for (let step = first; step < first + count; step++) {
    const queued = queueStep(compiled, s, accumulation, step)
    if (pending) last = await pending
    pending = queued
  }
  return pending ? await pending : last
}

async function measure(w: Workload): Promise<void> {
  const s = { ...mistral7b, layers: Number(args.layers), ...w.shape }
  const rate = await productRate(s.batch * s.tokens)
  const start = performance.now()
  const session = await cudaBackend({ nf4: w.nf4 }).createSession()
  const programs: Program[] = [microStepProgram(s), updateProgram(s)]
  await bindAll(session, programs)
  const loaded = performance.now()
  const [micro, update] = [await session.compile(programs[0]), await session.compile(programs[1])]
  const compiled = { micro, update }
  const firstResult = await trainSteps(compiled, s, w.accumulation, 0, 1)
  const firstStep = performance.now()
  await trainSteps(compiled, s, w.accumulation, 1, 2)
  const memory = session.memory()
  const steps = Number(args.steps)
  const begin = performance.now()
  const last = await trainSteps(compiled, s, w.accumulation, 3, steps)
  const seconds = (performance.now() - begin) / 1000 / steps
  const tokens = s.batch * s.tokens * w.accumulation
  const tflops = (operations(s) * w.accumulation) / seconds / 1e12
  const lossOf = (results: RunResult[]): string => (results[0].loss[0] / (s.batch * (s.tokens - 1))).toFixed(4)
  console.log(
    `${w.name}: ${(1 / seconds).toFixed(2)} steps/s, ${Math.round(tokens / seconds)} tokens/s, ${tflops.toFixed(0)} TFLOP/s = ` +
      `${((100 * tflops) / rate).toFixed(0)}% of cuBLASLt's ${rate.toFixed(0)}; device ${gib(memory.used)} ` +
      `(arena ${gib(memory.arena)}, ours ${gib(memory.allocated)}); load ${((loaded - start) / 1000).toFixed(1)} s, ` +
      `first step ${((firstStep - loaded) / 1000).toFixed(1)} s; loss ${lossOf(firstResult)} -> ${lossOf(last)}`,
  )
  if (args.profile) {
    const updating = update.profile(updateFeeds(s, w.accumulation, steps + 3))
    console.log(`  update ${updating.total.toFixed(2)} ms eager`)
    const { kernels, total } = micro.profile(feedsOf(s, 0))
    const parts = Object.entries(kernels).sort(([, a], [, b]) => b.ms - a.ms)
    console.log(
      `  micro-step ${total.toFixed(1)} ms eager: ${parts
        .slice(0, 24)
        .map(([name, { ms, count }]) => `${name} ${ms.toFixed(2)} (${count})`)
        .join(', ')}`,
    )
  }
  await session.dispose()
}

await runWithOneLine(async () => {
  for (const w of workloads.filter(({ name }) => name.includes(args.only))) await measure(w)
  return 0
})
