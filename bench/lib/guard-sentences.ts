import { existsSync, readFileSync } from 'node:fs'
import { drawSentences, grammarSchema, packageDataFolder } from '@mirastral/infer'
import type { GuardSentence } from '@mirastral/infer'

/** A sentence of the evaluation set: `data/guard/evaluation/<split>.jsonl`. */
export interface LabelledSentence extends GuardSentence {
  readonly id: string
  readonly split: string
  readonly kind: string
  /** Easily mistaken for a crisis. */
  readonly hard: boolean
}

/** All sentences of a split, or none if the split has no file. */
export function readSentences(split: string): LabelledSentence[] {
  const path = `${packageDataFolder()}/guard/evaluation/${split}.jsonl`
  if (!existsSync(path)) return []
  const lines = readFileSync(path, 'utf8').trim().split('\n')
  return lines.map((line) => JSON.parse(line) as LabelledSentence)
}

/** Sentences drawn from the practice grammar; they weigh a tenth of a written one. */
export function practiceSentences(): GuardSentence[] {
  const grammar = grammarSchema.parse(JSON.parse(readFileSync(`${packageDataFolder()}/guard/en/grammar.json`, 'utf8')))
  return drawSentences(grammar).map((sentence) => ({ ...sentence, weight: 0.1 }))
}
