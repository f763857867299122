// @ts-check
// One variant of bench/generate in a process of its own, so that its memory is its own. Prints one line of JSON.
import { parseArgs } from 'node:util'
import { ortBackend } from '@mirastral/engine'
import { DeviceDecoder } from '@mirastral/infer'
import { loadModel } from '@mirastral/models'
import { median } from './lib/matmul-rate.mjs'
import { memoryRate } from './lib/memory-rate.mjs'

const { values } = parseArgs({
  options: {
    model: { type: 'string', default: '' },
    weights: { type: 'string' },
    precision: { type: 'string', default: 'exact' },
    batch: { type: 'string' },
    threads: { type: 'string' },
    prompt: { type: 'string' },
    tokens: { type: 'string' },
    repeats: { type: 'string' },
  },
})
const [batch, threads, promptLength, tokens, repeats] = [
  values.batch,
  values.threads,
  values.prompt,
  values.tokens,
  values.repeats,
].map(Number)
const model = await loadModel(values.model, { quantization: values.weights === 'dense' ? 'none' : 'nf4' })
const decoder = await DeviceDecoder.create({
  backend: ortBackend({ threads, nf4: values.weights === 'nf4-dense' ? 'dense' : 'packed' }),
  model,
  contextLength: promptLength + tokens + 1,
  sequences: batch,
  precision: values.precision === 'int8' ? 'int8' : values.precision === 'int4' ? 'int4' : 'exact',
})
const prompt = Int32Array.from({ length: promptLength }, (_, i) => (i * 7919 + 13) % model.config.vocabSize)

/** @param {number} slot */
async function read(slot) {
  let position = 0
  for (;;) {
    const { count, logits } = await decoder.prefill(slot, { ids: prompt.subarray(position), position }, null)
    position += count
    if (position === promptLength) return logits
  }
}

/** @param {Float32Array} logits */
function greedy(logits) {
  let best = 0
  for (let i = 1; i < logits.length; i++) if (logits[i] > logits[best]) best = i
  return best
}

/** Seconds of `tokens - 1` steps of all sequences, and what the first one wrote. */
async function write() {
  let rows = []
  for (let slot = 0; slot < batch; slot++) rows.push(greedy(await read(slot)))
  const written = [rows[0]]
  const start = performance.now()
  const before = process.cpuUsage()
  for (let i = 0; i < tokens - 1; i++) {
    const steps = rows.map((tokenId, slot) => ({ slot, tokenId, position: promptLength + i }))
    rows = (await decoder.step(steps, null)).map(greedy)
    written.push(rows[0])
  }
  const { user, system } = process.cpuUsage(before)
  return { seconds: (performance.now() - start) / 1000, cpuMs: (user + system) / 1000, written }
}

await write()
const prefills = []
for (let i = 0; i < repeats; i++) {
  const start = performance.now()
  await read(0)
  prefills.push(promptLength / ((performance.now() - start) / 1000))
}
const decodes = []
/** @type {number[]} */
let written = []
/** @type {number[]} */
const cpu = []
for (let i = 0; i < repeats; i++) {
  const run = await write()
  decodes.push((batch * (tokens - 1)) / run.seconds)
  cpu.push(run.cpuMs / batch / (tokens - 1))
  written = run.written
}
const peakMb = process.resourceUsage().maxRSS / 1024
await decoder.dispose()
await model.weights.close()
const rate = await memoryRate(threads)
const result = { prefill: median(prefills), decode: median(decodes), cpuMs: median(cpu), peakMb, rate }
console.log(JSON.stringify({ ...result, tokens: written }))
