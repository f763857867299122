import { existsSync, readFileSync } from 'node:fs'
import { packageDataFolder } from '@mirastral/infer'
import type { GuardSentence } from '@mirastral/infer'

/** A labelled sentence of `data/guard/evaluation/`. */
export interface LabelledSentence extends GuardSentence {
  /** The split and the line, from 1. */
  readonly id: string
  readonly kind: string
}

const columns = ['direction', 'category', 'severity', 'kind', 'text'] as const

/** Easily mistaken for a crisis: harmless, and more than everyday talk. */
export const isHardNegative = ({ severity, kind }: LabelledSentence): boolean =>
  severity === 'none' && kind !== 'everyday'

/** All sentences of `<split>.tsv` (the columns direction, category, severity, kind, text) or of `<split>.jsonl`; none without a file. */
export function readSentences(split: string): LabelledSentence[] {
  const path = `${packageDataFolder()}/guard/evaluation/${split}`
  const read = (ending: string): string[] =>
    existsSync(path + ending)
      ? readFileSync(path + ending, 'utf8')
          .trim()
          .split('\n')
      : []
  const rows = [
    ...read('.tsv').map((line) => Object.fromEntries(line.split('\t').map((value, i) => [columns[i], value]))),
    ...read('.jsonl').map((line) => JSON.parse(line) as object),
  ]
  return rows.map((row, i) => ({ ...(row as LabelledSentence), id: `${split}-${i + 1}` }))
}
