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

/** All sentences of `<split>.tsv`: the columns direction, category, severity, kind, text. None without a file. */
export function readSentences(split: string): LabelledSentence[] {
  const path = `${packageDataFolder()}/guard/evaluation/${split}.tsv`
  if (!existsSync(path)) return []
  return readFileSync(path, 'utf8')
    .trim()
    .split('\n')
    .map((line, i) => {
      const cells = line.split('\t').map((value, column) => [columns[column], value])
      return { ...(Object.fromEntries(cells) as LabelledSentence), id: `${split}-${i + 1}` }
    })
}
