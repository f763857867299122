// Trains the guard's classifiers from the labelled sentences and writes data/guard/en/{input,output}-classifier.bin.
// Deterministic: the same sentences give the same bytes. Usage: node --loader ts-node/esm bench/guard-train.ts
import { writeFileSync } from 'node:fs'
import { encodeClassifier, loadLanguage, packageDataFolder, trainGuardClassifier } from '@mirastral/infer'
import { practiceSentences, readSentences } from './lib/guard-sentences.js'

const language = loadLanguage('en')
const written = ['train', 'dev'].flatMap((split) => readSentences(split))
for (const direction of ['input', 'output'] as const) {
  const examples = [...written, ...practiceSentences()].filter((s) => s.direction === direction)
  const bytes = encodeClassifier(trainGuardClassifier(language, direction, examples))
  const path = `${packageDataFolder()}/guard/en/${direction}-classifier.bin`
  writeFileSync(path, bytes)
  console.log(`guard-train: ${direction}: ${examples.length} sentences, ${bytes.length} bytes`)
}
