// Decoding of a Mistral-7B-shaped NF4 model on one GPU, one graph per token, weights generated on the spot.
// Usage: node --no-warnings --loader ts-node/esm bench/decode-cuda.ts [--layers 32] [--tokens 128] [--batches 1,8,64] [--ranks 0,16]
import { parseArgs } from 'node:util'
import { cudaBackend, type TensorData } from '@mirastral/engine'
import { bindAll } from './cuda-weights.js'
import { decodeProgram, mistral7b, type DecoderShape } from './decoder-program.js'
import { runWithOneLine } from './lib/one-line.js'

const { values: args } = parseArgs({
  options: {
    layers: { type: 'string', default: '32' },
    tokens: { type: 'string', default: '128' },
    context: { type: 'string', default: '512' },
    batches: { type: 'string', default: '1,8,64' },
    ranks: { type: 'string', default: '0,16' },
    profile: { type: 'boolean', default: false },
  },
})

/** The largest logit of each row. */
function greedy(logits: TensorData, rows: number): Int32Array {
  if (!(logits instanceof Float32Array)) throw new Error('logits must be floats')
  const width = logits.length / rows
  return Int32Array.from({ length: rows }, (_, row) => {
    let best = row * width
    for (let i = best; i < (row + 1) * width; i++) if (logits[i] > logits[best]) best = i
    return best - row * width
  })
}

async function measure(batch: number, rank: number): Promise<void> {
  const tokens = Number(args.tokens)
  const context = Number(args.context)
  const s: DecoderShape = {
    ...mistral7b,
    layers: Number(args.layers),
    batch,
    rank,
    tokens: 1,
    capacity: context + tokens + 8,
  }
  const session = await cudaBackend({ nf4: 'packed' }).createSession()
  const program = decodeProgram(s)
  await bindAll(session, [program])
  const exe = await session.compile(program)
  let ids: Int32Array = new Int32Array(batch).fill(1)
  const feeds = (position: number): Record<string, TensorData> => ({
    ids,
    positions: new Int32Array(batch).fill(position),
    lengths: new Int32Array(batch).fill(position),
  })
  // The cache up to `context` holds zeros: their keys are read like any others.
  for (let i = 0; i < 3; i++) ids = greedy((await exe.run(feeds(context + i))).logits, batch)
  const start = performance.now()
  for (let i = 3; i < tokens + 3; i++) ids = greedy((await exe.run(feeds(context + i))).logits, batch)
  const seconds = (performance.now() - start) / 1000 / tokens
  const { used } = session.memory()
  console.log(
    `decode batch ${batch}, LoRA rank ${rank}, context ${context}: ${(batch / seconds).toFixed(0)} tokens/s, ${(seconds * 1000).toFixed(2)} ms per token, ` +
      `device ${(used / 2 ** 30).toFixed(2)} GiB`,
  )
  if (args.profile) {
    const { kernels, total } = exe.profile(feeds(context))
    const parts = Object.entries(kernels).sort(([, a], [, b]) => b.ms - a.ms)
    console.log(
      `  ${total.toFixed(2)} ms eager: ${parts
        .slice(0, 24)
        .map(([name, { ms, count }]) => `${name} ${ms.toFixed(2)} (${count})`)
        .join(', ')}`,
    )
  }
  await session.dispose()
}

await runWithOneLine(async () => {
  for (const rank of args.ranks.split(',')) {
    for (const batch of args.batches.split(',')) await measure(Number(batch), Number(rank))
  }
  return 0
})
