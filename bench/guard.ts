// How well the guard recognises what it must, and how often it cries wolf, on labelled sentences of data/guard/evaluation/.
// Usage: node --loader ts-node/esm bench/guard.ts [split ...] [--show] [--json]
//   split   train, dev, test (default: test). The classifier was trained on train, its thresholds were chosen on dev, which it
//           was not trained on; each part of dev was measured once before anybody acted on it; test was never read.
//   --show  prints the sentences that were missed; without it only their ids.
import { SafetyGuard, inputCategories, isAlarm, outputCategories } from '@mirastral/infer'
import type { Finding, Severity } from '@mirastral/infer'
import { isHardNegative, readSentences } from './lib/guard-sentences.js'
import type { LabelledSentence } from './lib/guard-sentences.js'

interface Judged {
  readonly sentence: LabelledSentence
  readonly severity: Severity
  readonly categories: ReadonlySet<string>
}

const flags = process.argv.slice(2).filter((a) => a.startsWith('--'))
const splits = process.argv.slice(2).filter((a) => !a.startsWith('--'))
report(judgeSplits(splits.length > 0 ? splits : ['test']))

function judgeSplits(names: readonly string[]): Judged[] {
  const guard = SafetyGuard.load()
  const sentences = names.flatMap(readSentences)
  if (sentences.length === 0) {
    console.error(`guard: no sentences: ${names.map((n) => `data/guard/evaluation/${n}.tsv`).join(', ')} not found`)
    process.exit(2)
  }
  return sentences.map((sentence) => {
    const findings =
      sentence.direction === 'input' ? guard.assess(sentence.text).findings : guard.assessOutput(sentence.text)
    return verdict(sentence, findings)
  })
}

function verdict(sentence: LabelledSentence, findings: readonly Finding<string>[]): Judged {
  const severity = findings[0]?.severity ?? 'none'
  return { sentence, severity, categories: new Set(findings.filter((f) => isAlarm(f.severity)).map((f) => f.category)) }
}

function report(all: readonly Judged[]): void {
  const rows = (['input', 'output'] as const).flatMap((direction) => {
    const own = all.filter((j) => j.sentence.direction === direction)
    const positive = own.filter((j) => isAlarm(j.sentence.severity))
    const acute = positive.filter((j) => j.sentence.severity === 'acute')
    const negative = own.filter((j) => j.sentence.severity === 'none')
    const hard = negative.filter((j) => isHardNegative(j.sentence))
    return [
      ...(direction === 'input' ? [row('input: acute crisis, any alarm', acute)] : []),
      row(`${direction}: all that must be found, any alarm`, positive),
      ...(direction === 'input' ? [row('input: all, alarm or check-in', positive, (j) => j.severity !== 'none')] : []),
      row(`${direction}: FALSE ALARMS, hard negatives`, hard),
      row(`${direction}: FALSE ALARMS, all negatives`, negative),
      ...(direction === 'input'
        ? [row('input: check-ins, all negatives', negative, (j) => j.severity === 'concern')]
        : []),
      ...categoryRows(direction, own),
      ...kindRows(direction, negative),
    ]
  })
  if (flags.includes('--json')) console.log(JSON.stringify(rows))
  else
    for (const { name, found, of } of rows) console.log(`${name.padEnd(48)} ${percent(found, of)}  ${found} of ${of}`)
  if (!flags.includes('--json')) listMisses(all)
}

interface Row {
  readonly name: string
  readonly found: number
  readonly of: number
}

function row(name: string, all: readonly Judged[], counts = (j: Judged): boolean => isAlarm(j.severity)): Row {
  return { name, found: all.filter(counts).length, of: all.length }
}

function categoryRows(direction: 'input' | 'output', own: readonly Judged[]): Row[] {
  return (direction === 'input' ? inputCategories : outputCategories).flatMap((category) => {
    const positive = own.filter((j) => j.sentence.category === category && isAlarm(j.sentence.severity))
    const claimed = own.filter((j) => j.categories.has(category) && j.sentence.severity !== 'concern')
    return [
      row(`${category}: recall, any alarm`, positive),
      row(`${category}: recall, this category`, positive, (j) => j.categories.has(category)),
      row(`${category}: precision`, claimed, (j) => j.sentence.category === category),
    ]
  })
}

function kindRows(direction: string, negative: readonly Judged[]): Row[] {
  const kinds = [...new Set(negative.map((j) => j.sentence.kind))]
  return kinds.map((kind) =>
    row(
      `${direction} negatives, ${kind}: alarms`,
      negative.filter((j) => j.sentence.kind === kind),
    ),
  )
}

function listMisses(all: readonly Judged[]): void {
  const show = ({ sentence }: Judged): string =>
    flags.includes('--show') ? `\n    ${sentence.id}  ${sentence.text}` : ` ${sentence.id}`
  const missed = all.filter((j) => isAlarm(j.sentence.severity) && !isAlarm(j.severity))
  const wolf = all.filter((j) => j.sentence.severity === 'none' && isAlarm(j.severity))
  const silent = all.filter((j) => j.sentence.severity === 'concern' && j.severity === 'none')
  console.log(`\nmissed (${missed.length}):${missed.map(show).join('')}`)
  console.log(`false alarms (${wolf.length}):${wolf.map(show).join('')}`)
  console.log(`ambiguous, met with silence (${silent.length}):${silent.map(show).join('')}`)
}

function percent(part: number, whole: number): string {
  return whole === 0 ? '   n/a ' : `${((100 * part) / whole).toFixed(1).padStart(5)}% `
}
