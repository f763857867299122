// llama.cpp through node-llama-cpp on a GGUF file and the prompt of bench/generate. Prints one line of JSON.
// Usage: node llama.mjs <folder with node_modules/node-llama-cpp> <model.gguf> <threads> <prompt> <new tokens> <repeats>
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'

const [folder, modelPath, ...numbers] = process.argv.slice(2)
const [threads, promptLength, newTokens, repeats] = numbers.map(Number)
const entry = createRequire(join(folder, 'package.json')).resolve('node-llama-cpp')
const { getLlama, LlamaLogLevel } = await import(pathToFileURL(entry).href)
const llama = await getLlama({ gpu: false, build: 'never', logLevel: LlamaLogLevel.error, maxThreads: threads })
const model = await llama.loadModel({ modelPath })
const context = await model.createContext({
  contextSize: promptLength + newTokens + 8,
  threads,
  batchSize: promptLength,
})
const prompt = Array.from({ length: promptLength }, (_, i) => (i * 7919 + 13) % 49152)
const prefills = []
const decodes = []
const cpuMs = []
const tokens = []
for (let run = 0; run < repeats + 1; run++) {
  const sequence = context.getSequence()
  const start = performance.now()
  let first = 0
  let before = process.cpuUsage()
  let count = 0
  for await (const token of sequence.evaluate(prompt, { temperature: 0, yieldEogToken: true })) {
    if (count === 0) {
      first = performance.now()
      before = process.cpuUsage()
    }
    if (run === 0) tokens.push(token)
    if (++count === newTokens) break
  }
  if (run > 0) {
    prefills.push(promptLength / ((first - start) / 1000))
    const { user, system } = process.cpuUsage(before)
    cpuMs.push((user + system) / 1000 / (newTokens - 1))
    decodes.push((newTokens - 1) / ((performance.now() - first) / 1000))
  }
  sequence.dispose()
}
const median = (values) => values.sort((a, b) => a - b)[Math.floor(values.length / 2)]
console.log(JSON.stringify({ prefill: median(prefills), decode: median(decodes), cpuMs: median(cpuMs), tokens }))
process.exit(0)
